// SPDX-License-Identifier: Apache-2.0
public import ProcessImage

/// Builds processes from descriptions.
public enum ProcessBuilder {
    /// Begins with a process: checks that this machine can take it, makes it, and maps its memory.
    ///
    /// The calling thread becomes its tracer.
    /// - Throws: ``RestoreError``; nothing is left then.
    public static func begin(
        _ description: ProcessDescription,
        options: BuildOptions = .init()
    ) throws(RestoreError) -> PartialProcess {
        let construction = try Construction(description, options: options)
        do throws(RestoreError) {
            try construction.clear()
            try construction.moveKernelMappings()
            let uffd = try construction.makeUserfaultfd()
            let objectUffd = try construction.makeObjectUserfaultfd()
            try construction.makeSharedObjects()
            try construction.mapEverything()
            return PartialProcess(construction, uffd, objectUffd)
        } catch {
            construction.destroy()
            throw error
        }
    }
}
