// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem
public import Paging
public import ProcessImage
public import Userfaultfd

/// A process that is being built from a description: all its threads are stopped, and it ends with this program.
///
/// It belongs to the thread that began it (ptrace(2) knows only that thread as the tracer). The order is fixed: ``write(_:)`` for
/// each piece of eager memory, ``register()``, then somebody answers the faults of ``uffd`` on another thread, ``finish()``,
/// ``release(guards:)``. A value that is dropped before ``release(guards:)`` destroys the process.
///
/// ``finish()`` and ``release(guards:)`` may wait for pages: who serves them and cannot any more kills the process (``process``),
/// and the waiting call throws with code `ended`.
public final class PartialProcess {
    /// The userfaultfd of the process: missing mode, with fork, remap, remove and unmap events and thread ids; where the process is
    /// tracked, asynchronous write protection as well.
    public let uffd: Userfaultfd
    /// The VMAs of private memory that are registered with it by ``register()``, ascending.
    public let lazyRanges: [AddressRange]
    /// The userfaultfd of lazy shared memory: missing mode, with fork, remap and remove events and thread ids; nil when there is none.
    public let objectUffd: Userfaultfd?
    /// The mappings of lazy shared memory, ascending, which ``register()`` registers with that one.
    public private(set) var lazyObjects: [LazyObject] = []

    /// A mapping of lazy shared memory.
    public struct LazyObject: Sendable {
        /// Its addresses.
        public let range: AddressRange
        /// Where in the object it begins, in bytes.
        public let offset: UInt64
        /// The object, which holds nothing yet, open for reading and writing; the same for all mappings of it.
        public let file: HeldDescriptor
    }

    private let construction: Construction
    private var step = Step.begun

    private enum Step: Int, Comparable {
        case begun, registered, finished, over

        static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    }

    init(_ construction: Construction, _ uffd: consuming Userfaultfd, _ objectUffd: consuming Userfaultfd?) {
        self.construction = construction
        self.uffd = uffd
        self.objectUffd = objectUffd
        lazyRanges = construction.lazyRanges
    }

    /// The process, as this program sees it.
    public var pid: Int32 { construction.spawned.pid }

    /// The process by a descriptor, for other threads.
    public var process: ProcessDescriptor { construction.process }

    /// Puts bytes where they belong before anything is registered.
    ///
    /// - Throws: ``RestoreError`` when they belong nowhere.
    public func write(_ pages: EagerPages) throws(RestoreError) {
        precondition(step == .begun, "PartialProcess: written to after it was registered")
        switch pages.target {
        case .process: try construction.runner.write(pages.bytes, to: pages.address)
        case .sharedObject: try construction.writeObject(pages)
        }
    }

    /// Registers every lazy VMA with ``uffd``; from now on a page that is missing there is a fault.
    public func register() throws(RestoreError) {
        precondition(step == .begun, "PartialProcess: registered twice")
        try construction.sealSharedObjects()
        // A registration replaces the modes of an earlier one: all at once.
        let modes: RegistrationModes = construction.options.tracked ? [.missing, .writeProtect] : .missing
        for range in lazyRanges {
            try RestoreError.wrap("register \(range)") { () throws(SystemCallError) in
                try uffd.register(range, modes: modes)
            }
        }
        try registerObjects()
        try construction.lockMemory()
        step = .registered
    }

    private func registerObjects() throws(RestoreError) {
        var files: [UInt32: HeldDescriptor] = [:]
        for mapping in construction.lazyObjects {
            let file: HeldDescriptor
            if let known = files[mapping.object] {
                file = known
            } else {
                file = try construction.takeOut(object: mapping.object)
                files[mapping.object] = file
            }
            lazyObjects.append(LazyObject(range: mapping.range, offset: mapping.offset, file: file))
            try RestoreError.wrap("register \(mapping.range)") { () throws(SystemCallError) in
                try objectUffd?.register(mapping.range, modes: .missing)
            }
        }
    }

    /// Adds what is not memory: threads, descriptors, signals, credentials, settings, interrupted calls.
    ///
    /// Faults are answered by somebody else meanwhile.
    public func finish() throws(RestoreError) {
        precondition(step == .registered, "PartialProcess: finished out of order")
        try construction.finish()
        step = .finished
    }

    /// Lets the process run.
    ///
    /// Nothing of ours is left in it but the userfaultfd.
    ///
    /// - Parameter guards: ranges of guard pages (MADV_GUARD_INSTALL).
    /// - Returns: who tells how it ends.
    /// - Throws: ``RestoreError``; the process is destroyed then.
    public func release(guards: [AddressRange]) throws(RestoreError) -> ExitWatcher {
        precondition(step == .finished, "PartialProcess: released out of order")
        step = .over
        do throws(RestoreError) {
            try construction.release(guards: guards)
            return ExitWatcher(construction.spawned, construction.process)
        } catch {
            construction.destroy()
            throw error
        }
    }

    /// Ends the process; nothing of it is left.
    ///
    /// Does nothing after ``release(guards:)``.
    public func destroy() {
        step = .over
        construction.destroy()
    }
}

/// Tells how a restored process ended.
public final class ExitWatcher {
    private let spawned: SpawnedProcess
    private let process: ProcessDescriptor

    init(_ spawned: SpawnedProcess, _ process: ProcessDescriptor) {
        self.spawned = spawned
        self.process = process
    }

    /// The process, as this program sees it.
    public var pid: Int32 { spawned.pid }

    /// Readable when ``status()`` may have something new, for a ``Poller``.
    public var descriptor: Int32 { spawned.channel ?? process.descriptor }

    /// How the process ended, once it has; does not wait.
    ///
    /// Gives the answer once.
    ///
    /// - Throws: `EPIPE` when the init of its pid namespace was killed, and the process with it.
    public func status() throws(SystemCallError) -> ExitStatus? {
        try spawned.status()
    }
}
