// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// What the machine offers to tests.
public enum Machine {
    /// Whether the tests run as root, which ptrace, namespaces and userfaultfd events need.
    public static var isRoot: Bool { geteuid() == 0 }

    /// What the environment of the tests says, nil when it says nothing.
    public static func variable(_ name: String) -> String? {
        // SAFETY: a NUL-terminated string of the environment, which no test changes, copied at once.
        guard let text = unsafe getenv(name) else { return nil }
        return unsafe String(cString: text)
    }

    /// Path of a program in the usual folders, or nil.
    public static func program(_ name: String) -> String? {
        for folder in ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"] {
            let path = "\(folder)/\(name)"
            // SAFETY: a NUL-terminated copy for the time of the call.
            if unsafe access(path, X_OK) == 0 { return path }
        }
        return nil
    }
}

/// What the package built, found next to the running test bundle.
public enum BuiltProduct {
    /// The victim program of the tests.
    public static var victim: String { path("Victim") }
    /// The product itself.
    public static var thaw: String { path("thaw") }

    /// Path of an executable of this package.
    public static func path(_ name: String) -> String {
        "\(folder)/\(name)"
    }

    /// Root folder of the package.
    public static var package: String {
        // This file is Tests/Support/TestSupport/Machine.swift.
        #filePath.split(separator: "/").dropLast(4).reduce(into: "") { $0 += "/\($1)" }
    }

    private static let folder: String = {
        let running = folderOfFile((try? readLink("/proc/self/exe")) ?? "")
        if Machine.isExecutable("\(running)/Victim") { return running }
        // Another program may run the bundle: it is mapped then.
        let maps = (try? readText("/proc/self/maps")) ?? ""
        for line in maps.split(separator: "\n") where line.hasSuffix(".xctest") {
            let path = line.drop { $0 != "/" }
            let found = folderOfFile(String(path))
            if Machine.isExecutable("\(found)/Victim") { return found }
        }
        return running
    }()

    private static func folderOfFile(_ path: String) -> String {
        path.split(separator: "/").dropLast().reduce(into: "") { $0 += "/\($1)" }
    }
}

extension Machine {
    static func isExecutable(_ path: String) -> Bool {
        // SAFETY: a NUL-terminated copy for the time of the call.
        unsafe access(path, X_OK) == 0
    }
}
