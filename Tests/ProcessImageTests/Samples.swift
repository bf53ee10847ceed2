// SPDX-License-Identifier: Apache-2.0
import ProcessImage

/// Values in which no field is as in `init()`.
enum Samples {
    static let description: ProcessDescription = {
        var sample = ProcessDescription()
        sample.machine = machine
        sample.identity = identity
        sample.memory = memory
        sample.files = files
        sample.signals = signals
        sample.timers.interval = [timer, timer, timer]
        sample.timers.posix = [posixTimer]
        sample.settings = settings
        sample.threads = [thread, thread]
        return sample
    }()

    /// Each sample beside an empty value of its type.
    static let pairs: [(any ArchivedValue, any ArchivedValue)] = [
        (description, ProcessDescription()), (machine, MachineDescription()), (identity, ProcessIdentity()),
        (memory, MemoryDescription()), (mapping, MappingDescription()), (file, FileIdentity()),
        (object, SharedObject()),
        (layout, MemoryLayoutFields()), (files, FileTable()), (descriptor, DescriptorEntry()), (open, OpenFile()),
        (watch, EpollWatch()), (pipe, Pipe()), (signals, SignalDescription()), (action, SignalAction()),
        (information, SignalInformation()), (timer, IntervalTimer()), (posixTimer, POSIXTimer()),
        (settings, ProcessSettings()), (thread, ThreadDescription()), (interrupted, InterruptedCall()),
        (stack, AlternateStack()), (credentials, Credentials()), (scheduling, Scheduling()),
    ]

    static func filled<Value>(_ value: Value, _ fill: (inout Value) -> Void) -> Value {
        var copy = value
        fill(&copy)
        return copy
    }

    static let machine = filled(MachineDescription()) {
        $0.architecture = "x86_64"
        $0.kernelRelease = "6.18.0"
        $0.bootID = "b0"
        $0.extendedStateComponents = 0xe7
        $0.extendedStateSize = 2688
        $0.monotonicClock = 5
        $0.bootClock = 6
        $0.describingTime = 8
    }
    static let identity = filled(ProcessIdentity()) {
        $0.pid = 100
        $0.processGroup = 99
        $0.session = 98
        $0.executable = "/usr/bin/xz"
        $0.commandLine = "xz -9"
        $0.workingDirectory = "/tmp/ä"
    }
    static let mapping = filled(MappingDescription()) {
        $0.start = 0x7f00_0000_0000
        $0.end = 0x7f00_0000_2000
        $0.kind = .privateFile
        $0.protection = 5
        $0.offset = 4096
        $0.object = 1
        $0.mayWrite = true
        $0.flags = "rd ex mr mw me"
        $0.name = "/usr/lib/x.so"
    }
    static let file = filled(FileIdentity()) {
        $0.path = "/usr/lib/x.so"
        $0.size = 8192
        $0.buildID = [1, 2, 3]
        $0.digest = [4]
        $0.modified = 7
        $0.writable = true
    }
    static let object = filled(SharedObject()) {
        $0.kind = .memfd
        $0.name = "m"
        $0.size = 4096
        $0.seals = 3
        $0.mode = 0o777
        $0.isLazy = true
    }
    static let layout = filled(MemoryLayoutFields()) {
        $0.startCode = 1
        $0.endCode = 2
        $0.startData = 3
        $0.endData = 4
        $0.startBrk = 5
        $0.brk = 6
        $0.startStack = 7
        $0.argStart = 8
        $0.argEnd = 9
        $0.envStart = 10
        $0.envEnd = 11
    }
    static let memory = filled(MemoryDescription()) {
        $0.mappings = [mapping]
        $0.files = [file]
        $0.sharedObjects = [object]
        $0.layout = layout
        $0.auxiliaryVector = [3, 0]
        $0.vdso = [0x7f, 0x45]
        $0.hugePagesDisabled = true
        $0.lockFutureFlags = 2
    }
    static let descriptor = filled(DescriptorEntry()) {
        $0.number = 4
        $0.description = 1
        $0.closeOnExec = true
    }
    static let watch = filled(EpollWatch()) {
        $0.number = 5
        $0.description = 1
        $0.events = 1
        $0.data = 9
    }
    static let open = filled(OpenFile()) {
        $0.kind = .epoll
        $0.path = "/x"
        $0.flags = 0o2002
        $0.offset = 12
        $0.object = 0
        $0.value = 3
        $0.detail = 1
        $0.timerFlags = 1
        $0.timer = timer
        $0.watches = [watch]
        $0.ownerType = 1
        $0.owner = 100
        $0.ownerSignal = 10
    }
    static let pipe = filled(Pipe()) {
        $0.capacity = 65536
        $0.content = [1, 2]
        $0.packets = [2]
    }
    static let files = filled(FileTable()) {
        $0.descriptors = [descriptor]
        $0.descriptions = [open, open]
        $0.pipes = [pipe]
    }
    static let action = filled(SignalAction()) {
        $0.handler = 1
        $0.flags = 2
        $0.restorer = 3
        $0.mask = 4
    }
    static let information = filled(SignalInformation()) {
        $0.bytes = [UInt8](repeating: 1, count: 128)
    }
    static let signals = filled(SignalDescription()) {
        $0.actions = [action]
        $0.pending = [information]
        $0.stopped = true
    }
    static let timer = filled(IntervalTimer()) {
        $0.value = 1
        $0.period = 2
    }
    static let posixTimer = filled(POSIXTimer()) {
        $0.id = 1
        $0.clock = 1
        $0.notify = 4
        $0.signal = 34
        $0.tid = 101
        $0.value = 8
        $0.overrun = 2
        $0.timer = timer
    }
    static let settings = filled(ProcessSettings()) {
        $0.limits = [1, 2]
        $0.umask = 0o27
        $0.personality = 0x40000
        $0.oomScoreAdjustment = -5
        $0.dumpable = 0
        $0.parentDeathSignal = 15
        $0.childSubreaper = true
        $0.hasControllingTerminal = true
        $0.coreDumpFilter = 0x7f
    }
    static let interrupted = filled(InterruptedCall()) {
        $0.continuation = .restartBlock
        $0.number = 35
        $0.timeLeft = 1000
    }
    static let stack = filled(AlternateStack()) {
        $0.address = 1
        $0.flags = 2
        $0.size = 3
    }
    static let credentials = filled(Credentials()) {
        $0.realUser = 1
        $0.effectiveUser = 2
        $0.savedUser = 3
        $0.fileSystemUser = 4
        $0.realGroup = 5
        $0.effectiveGroup = 6
        $0.savedGroup = 7
        $0.fileSystemGroup = 8
        $0.groups = [9]
        $0.inheritableCapabilities = 10
        $0.permittedCapabilities = 11
        $0.effectiveCapabilities = 12
        $0.boundingCapabilities = 13
        $0.ambientCapabilities = 14
        $0.secureBits = 15
        $0.noNewPrivileges = true
    }
    static let scheduling = filled(Scheduling()) {
        $0.attributes = [1]
        $0.affinity = [3]
        $0.ioPriority = 4
    }
    static let thread = filled(ThreadDescription()) {
        $0.tid = 100
        $0.name = [0x78]
        $0.registers = [1, 2]
        $0.extendedState = [1]
        $0.signalMask = 1
        $0.pendingSignals = [information]
        $0.alternateStack = stack
        $0.rseqAddress = 1
        $0.rseqSize = 32
        $0.rseqSignature = 0x5305_3053
        $0.robustListHead = 1
        $0.robustListLength = 24
        $0.clearChildTID = 1
        $0.credentials = credentials
        $0.scheduling = scheduling
        $0.timerSlack = 50000
        $0.interruptedCall = interrupted
    }
}
