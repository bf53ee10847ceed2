// SPDX-License-Identifier: Apache-2.0

/// Something in the surroundings of a test went wrong; the text is all there is to it.
public struct TestFailure: Error, CustomStringConvertible {
    /// What went wrong, with everything that helps to find out why.
    public let description: String

    /// A failure with its text.
    public init(_ description: String) {
        self.description = description
    }
}
