// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import ProcessImage
internal import ProcessTrace

/// The credentials that the new process was born with: those of this program.
struct OwnCredentials {
    let status: ProcessStatus

    init() throws(RestoreError) {
        status = try RestoreError.trace("read the own credentials") { () throws(TraceError) in
            try ProcessStatus.read(getpid())
        }
    }

    /// Whether nothing has to be changed.
    func equal(_ wanted: Credentials) -> Bool {
        status.users == [wanted.realUser, wanted.effectiveUser, wanted.savedUser, wanted.fileSystemUser]
            && status.groupIDs == [wanted.realGroup, wanted.effectiveGroup, wanted.savedGroup, wanted.fileSystemGroup]
            && status.groups == wanted.groups
            && status.inheritableCapabilities == wanted.inheritableCapabilities
            && status.permittedCapabilities == wanted.permittedCapabilities
            && status.effectiveCapabilities == wanted.effectiveCapabilities
            && status.boundingCapabilities == wanted.boundingCapabilities
            && status.ambientCapabilities == wanted.ambientCapabilities
            && wanted.secureBits == 0
            && status.noNewPrivileges == wanted.noNewPrivileges
    }
}

/// The calls that take a thread from the restorer's credentials to its own, in the one order in which each is still permitted;
/// credentials(7), capabilities(7).
struct CredentialCalls {
    private let wanted: Credentials
    private let own: OwnCredentials

    init(_ wanted: Credentials, own: OwnCredentials) {
        self.wanted = wanted
        self.own = own
    }

    /// Adds them; nothing when the credentials are equal.
    func add(to batch: inout StubBatch, thread: Int32) {
        guard !own.equal(wanted) else { return }
        let who = "of thread \(thread)"
        // Inheritable first: later the bounding set limits what may be added.
        let permitted = own.status.permittedCapabilities
        addCapabilities(permitted, permitted, wanted.inheritableCapabilities, to: &batch, who)
        for capability in 0..<64 {
            let bit = UInt64(1) << UInt64(capability)
            guard own.status.boundingCapabilities & ~wanted.boundingCapabilities & bit != 0 else { continue }
            batch.call(
                SYS_prctl,
                Kernel.dropBoundingCapability,
                UInt64(capability),
                for: "drop capability \(capability) \(who) from the bounding set"
            )
        }
        let groups = batch.place(wanted.groups.flatMap(\.littleEndianBytes))
        batch.call(SYS_setgroups, UInt64(wanted.groups.count), groups, for: "set the groups \(who)")
        batch.call(SYS_prctl, Kernel.setKeepCapabilities, 1, for: "keep the capabilities \(who)")
        addIDs(to: &batch, who)
        // Leaving user 0 cleared the effective ones.
        addCapabilities(permitted, permitted, wanted.inheritableCapabilities, to: &batch, who)
        for capability in 0..<64 where wanted.ambientCapabilities & (UInt64(1) << UInt64(capability)) != 0 {
            batch.call(
                SYS_prctl,
                Kernel.ambientCapability,
                Kernel.raiseAmbientCapability,
                UInt64(capability),
                for: "raise the ambient capability \(capability) \(who)"
            )
        }
        batch.call(SYS_prctl, Kernel.setSecureBits, UInt64(wanted.secureBits), for: "set the securebits \(who)")
        addCapabilities(
            wanted.effectiveCapabilities,
            wanted.permittedCapabilities,
            wanted.inheritableCapabilities,
            to: &batch,
            who
        )
        if wanted.noNewPrivileges {
            batch.call(SYS_prctl, Kernel.setNoNewPrivileges, 1, for: "set no_new_privs \(who)")
        }
    }

    private func addIDs(to batch: inout StubBatch, _ who: String) {
        batch.call(
            SYS_setresgid,
            UInt64(wanted.realGroup),
            UInt64(wanted.effectiveGroup),
            UInt64(wanted.savedGroup),
            for: "set the group ids \(who)"
        )
        batch.call(SYS_setfsgid, UInt64(wanted.fileSystemGroup), for: "set the file system group \(who)")
        batch.call(
            SYS_setresuid,
            UInt64(wanted.realUser),
            UInt64(wanted.effectiveUser),
            UInt64(wanted.savedUser),
            for: "set the user ids \(who)"
        )
        batch.call(SYS_setfsuid, UInt64(wanted.fileSystemUser), for: "set the file system user \(who)")
    }

    /// capset(2), version 3.
    private func addCapabilities(
        _ effective: UInt64,
        _ permitted: UInt64,
        _ inheritable: UInt64,
        to batch: inout StubBatch,
        _ who: String
    ) {
        let header = batch.place(UInt32(0x2008_0522).littleEndianBytes + UInt32(0).littleEndianBytes)
        let halves = [0, 32].flatMap { shift in
            [effective, permitted, inheritable].flatMap { UInt32(truncatingIfNeeded: $0 >> shift).littleEndianBytes }
        }
        let data = batch.place(halves)
        batch.call(SYS_capset, header, data, for: "set the capabilities \(who)")
    }
}
