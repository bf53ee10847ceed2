// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// What the environment of this program says.
public enum EnvironmentVariable {
    /// The text of a variable, nil when it is not set; bytes that are no UTF-8 are replaced.
    ///
    /// The corresponding call is `getenv`.
    public static func text(_ name: String) -> String? {
        // SAFETY: a NUL-terminated string of the environment, which nothing in this program changes, copied at once.
        guard let text = unsafe getenv(name) else { return nil }
        return unsafe String(cString: text)
    }
}
