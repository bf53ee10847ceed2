// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

/// A process on its way from a bare clone of this program to what a description says.
///
/// Each step lies in a file of its own.
final class Construction {
    let description: ProcessDescription
    let options: BuildOptions
    let check: DestinationCheck
    let spawned: SpawnedProcess
    /// The process by a descriptor.
    let process: ProcessDescriptor
    let runner: StubRunner
    let stub: StubLayout
    /// The threads that exist already, in the order of the description.
    var tracees: [Tracee]
    /// Addresses that nothing will be mapped at, for temporary mappings.
    var plan: AddressPlan
    /// Shared memory and memfds, in the order of the description.
    var objects: [BuiltObject] = []
    /// Mappings of shared memory whose pages may come later.
    let lazyObjects: [LazyObjectMapping]
    /// Registers with which the threads go on, in the order of the description.
    var goingOn: [[UInt64]] = []
    /// timerfds that are armed at the end.
    var timerDescriptors: [(number: Int32, made: Int32, file: OpenFile)] = []
    /// CPUs of the calling thread before it was pinned to one.
    let ownAffinity: CPUAffinity?
    private let undertaker: Undertaker
    private var isOver = false

    /// The first thread.
    var leader: Tracee { tracees[0] }

    /// Makes the process, stops it and puts the code of the stub into it.
    init(_ description: ProcessDescription, options: BuildOptions) throws(RestoreError) {
        self.description = description
        self.options = options
        check = try DestinationCheck(description, options: options)
        lazyObjects = try Self.lazyObjects(of: description, options)
        var plan = AddressPlan(
            taken: description.memory.mappings.map(\.range) + check.ownMappings.map(\.range)
        )
        guard let range = plan.allocate(StubLayout.bytes(for: description)) else {
            throw RestoreError(.unavailable, "there is no room in the address space for building the process")
        }
        self.plan = plan
        stub = StubLayout(range: range, for: description)
        // Injected calls are an order of magnitude faster when both threads share a CPU; the new process inherits it.
        ownAffinity = try? CPUAffinity.pinToCurrent()
        do throws(RestoreError) {
            spawned = try Self.spawn(description, options, stub: range)
            (process, runner, tracees, undertaker) = try Self.attach(spawned, stub)
        } catch {
            try? ownAffinity?.apply()
            throw error
        }
    }

    deinit {
        destroy()
    }

    private static func lazyObjects(
        of description: ProcessDescription,
        _ options: BuildOptions
    ) throws(RestoreError) -> [LazyObjectMapping] {
        let mappings: [LazyObjectMapping]
        do throws(ProcessImageError) {
            mappings = try description.memory.lazyObjectMappings()
        } catch {
            throw RestoreError(.badDescription, error.description)
        }
        guard mappings.isEmpty || !options.tracked else {
            throw RestoreError(.badDescription, "there is lazy shared memory, which was not asked for")
        }
        return mappings
    }

    /// Ends the process unless it was released.
    ///
    /// Nothing of it is left.
    func destroy() {
        guard !isOver else { return }
        isOver = true
        try? ownAffinity?.apply()
        Self.end(spawned, tracees)
        undertaker.end()
    }

    /// The process belongs to itself from now on.
    func handOver() throws(RestoreError) {
        isOver = true
        undertaker.end()
        try? ownAffinity?.apply()
        try RestoreError.wrap("let the process go") { () throws(SystemCallError) in try spawned.release() }
    }

    /// Kills a process whose threads are traced here, and reaps it.
    private static func end(_ spawned: SpawnedProcess, _ tracees: [Tracee]) {
        kill(spawned.pid, SIGKILL)
        // Every traced thread has to be waited for, the leader last (by `destroy`).
        for tracee in tracees.dropFirst() {
            while let stop = try? tracee.waitForStop(), stop.isStopped {}
        }
        // Those that were made and not taken over yet.
        let patience = Deadline.after(.seconds(10))
        while DeadThreads.take(of: spawned.pid), !patience.hasPassed { usleep(1000) }
        spawned.destroy()
    }

    private static func spawn(
        _ description: ProcessDescription,
        _ options: BuildOptions,
        stub: AddressRange
    ) throws(RestoreError) -> SpawnedProcess {
        let identity = description.identity
        var request = SpawnRequest(pid: identity.pid, stub: stub)
        request.newPIDNamespace = options.newPIDNamespace
        request.session = identity.session
        request.group = identity.processGroup
        request.timeOffsets = ClockOffsets(description.machine)?.text
        do {
            return try SpawnedProcess(request)
        } catch {
            throw spawnFailure(error, identity, options)
        }
    }

    private static func spawnFailure(
        _ error: SpawnError,
        _ identity: ProcessIdentity,
        _ options: BuildOptions
    ) -> RestoreError {
        let cause = SystemCallError("clone3", error.errno, operand: "\(error.step)")
        if error.errno == .exists, error.step == .process {
            if options.newPIDNamespace {
                return RestoreError(
                    .refused,
                    "the id \(identity.pid) is that of the init of a pid namespace: it cannot be given"
                )
            }
            return HolderOfID(identity.pid)?.error
                ?? HolderOfID.error(identity.pid, "a process group or session has it")
        }
        if error.errno == .perm || error.errno == .access {
            return RestoreError(.permission, "no permission to make process \(identity.pid): run as root", cause: cause)
        }
        return RestoreError(RestoreError.code(of: error.errno), "cannot make process \(identity.pid)", cause: cause)
    }

    private static func attach(
        _ spawned: SpawnedProcess,
        _ stub: StubLayout
    ) throws(RestoreError) -> (ProcessDescriptor, StubRunner, [Tracee], Undertaker) {
        var tracees: [Tracee] = []
        do throws(RestoreError) {
            let process = try RestoreError.wrap("open the new process") { () throws(SystemCallError) in
                try ProcessDescriptor(pid: spawned.pid)
            }
            let undertaker = try RestoreError.wrap("look after the new process") { () throws(SystemCallError) in
                try Undertaker(spawned.pid)
            }
            let (runner, tracee) = try RestoreError.trace("take over the new process") {
                () throws(TraceError) -> (StubRunner, Tracee) in
                let tracee = try Tracee.seize(spawned.pid, options: .killOnExit)
                try tracee.interrupt()
                try tracee.waitForStop()
                // A breakpoint ends each batch, and it must not be blocked.
                try tracee.setSignalMask(~(1 << UInt64(SIGTRAP - 1)))
                let memory = try ProcessMemory(pid: spawned.pid)
                try memory.write(StubCode.bytes, to: VirtualAddress(stub.code))
                return (StubRunner(code: stub.code, memory: memory, arena: stub.leaderArena), tracee)
            }
            tracees = [tracee]
            return (process, runner, tracees, undertaker)
        } catch {
            end(spawned, tracees)
            throw error
        }
    }
}
