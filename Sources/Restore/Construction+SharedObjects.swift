// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessImage

/// A shared object that exists in the new process.
struct BuiltObject {
    /// A descriptor of it there, readable and writable, that is closed in the end.
    let descriptor: Int32
    /// Where its contents are written through, until the objects are sealed.
    let window: AddressRange?
    /// Whether a seal that it will have forbids to map it before its contents are there.
    let isMappedLate: Bool
}

// Shared anonymous memory and memfds.
extension Construction {
    /// Makes all objects, each with a temporary mapping for its contents.
    func makeSharedObjects() throws(RestoreError) {
        for (index, object) in description.memory.sharedObjects.enumerated() {
            let descriptor: Int32
            var window: AddressRange?
            switch object.kind {
            case .memfd:
                descriptor = try makeMemfd(object)
                if object.size > 0 { window = try mapWindow(object, descriptor: descriptor) }
            case .anonymous:
                guard object.size > 0 else {
                    throw RestoreError(.badDescription, "shared memory \(index) has no size")
                }
                let range = try mapWindow(object, descriptor: -1)
                window = range
                descriptor = try openMapping(range)
            }
            // F_SEAL_WRITE and F_SEAL_FUTURE_WRITE.
            let isMappedLate = object.seals & 0x18 != 0
            objects.append(BuiltObject(descriptor: descriptor, window: window, isMappedLate: isMappedLate))
        }
    }

    /// Takes contents for an object.
    func writeObject(_ pages: EagerPages) throws(RestoreError) {
        guard Int(pages.object) < objects.count, let window = objects[Int(pages.object)].window,
            pages.address <= window.byteCount, UInt64(pages.bytes.count) <= window.byteCount - pages.address
        else { throw RestoreError(.badDescription, "there are pages outside of shared memory \(pages.object)") }
        try runner.write(pages.bytes, to: window.lowerBound.rawValue + pages.address)
    }

    /// A descriptor of a lazy object, which must hold nothing: a page that is there would never be asked for.
    func takeOut(object index: UInt32) throws(RestoreError) -> HeldDescriptor {
        let file = HeldDescriptor(try duplicate(objects[Int(index)].descriptor))
        let data = try RestoreError.wrap("look into shared memory \(index)") { () throws(SystemCallError) in
            try OpenFileQuestions.firstData(in: file.rawValue, from: 0)
        }
        guard data == nil else {
            throw RestoreError(.badDescription, "contents of shared memory \(index), which is lazy, were sent ahead")
        }
        return file
    }

    /// Removes the temporary mappings, seals what was sealed, and maps what could only be mapped after that.
    func sealSharedObjects() throws(RestoreError) {
        var batch = runner.makeBatch()
        for (object, built) in zip(description.memory.sharedObjects, objects) {
            if let window = built.window {
                batch.call(SYS_munmap, window.lowerBound.rawValue, window.byteCount, for: "unmap a window of ours")
            }
            guard object.kind == .memfd else { continue }
            if object.mode & 0o7777 != 0 {
                batch.call(
                    SYS_fchmod,
                    UInt64(built.descriptor),
                    UInt64(object.mode & 0o7777),
                    for: "set the mode of memfd \"\(object.name)\""
                )
            }
            guard object.seals != 0, object.seals != Self.sealSeal else { continue }
            batch.call(
                SYS_fcntl,
                UInt64(built.descriptor),
                Kernel.addSeals,
                UInt64(object.seals),
                for: "seal memfd \"\(object.name)\""
            )
            if !batch.hasRoom(calls: 8, bytes: 0) {
                try runner.run(batch, on: leader)
                batch = runner.makeBatch()
            }
        }
        try runner.run(batch, on: leader)
        let late = description.memory.mappings.filter {
            $0.kind == .sharedObject && objects[Int($0.object)].isMappedLate
        }
        try runner.run(over: late, on: leader) { (mapping: MappingDescription, batch) throws(RestoreError) in
            try add(mapping, files: [:], to: &batch)
        }
    }

    /// F_SEAL_SEAL alone: a memfd that was made without MFD_ALLOW_SEALING.
    private static let sealSeal: UInt32 = 1

    private func makeMemfd(_ object: SharedObject) throws(RestoreError) -> Int32 {
        var batch = runner.makeBatch()
        let name = batch.place(object.name)
        let flags = Kernel.memfdCloseOnExec | (object.seals == Self.sealSeal ? 0 : Kernel.memfdAllowSealing)
        batch.call(SYS_memfd_create, name, flags, for: "make memfd \"\(object.name)\"")
        let descriptor = try runner.run(batch, on: leader)[0]
        batch = runner.makeBatch()
        batch.call(SYS_ftruncate, UInt64(descriptor), object.size, for: "size memfd \"\(object.name)\"")
        return try lift(Int32(truncatingIfNeeded: descriptor), with: &batch)
    }

    /// Maps an object where it is out of the way.
    private func mapWindow(_ object: SharedObject, descriptor: Int32) throws(RestoreError) -> AddressRange {
        let bytes = (object.size + PageSize.base - 1) / PageSize.base * PageSize.base
        guard let range = plan.allocate(bytes) else {
            throw RestoreError(.unavailable, "there is no room in the address space for shared memory")
        }
        var batch = runner.makeBatch()
        batch.call(
            SYS_mmap,
            range.lowerBound.rawValue,
            bytes,
            UInt64(PROT_READ | PROT_WRITE),
            UInt64(MAP_SHARED | MAP_FIXED_NOREPLACE | (descriptor < 0 ? MAP_ANONYMOUS : 0)),
            UInt64(argument: descriptor),
            for: "make shared memory",
            expecting: .value(range.lowerBound.rawValue)
        )
        try runner.run(batch, on: leader)
        return range
    }

    /// A descriptor of the object behind a mapping.
    private func openMapping(_ range: AddressRange) throws(RestoreError) -> Int32 {
        var batch = runner.makeBatch()
        let path = batch.place("/proc/self/map_files/\(range)")
        batch.call(
            SYS_openat,
            UInt64(argument: AT_FDCWD),
            path,
            UInt64(O_RDWR | O_CLOEXEC),
            for: "open shared memory at \(range)"
        )
        let descriptor = try runner.run(batch, on: leader)[0]
        batch = runner.makeBatch()
        return try lift(Int32(truncatingIfNeeded: descriptor), with: &batch)
    }

    /// Moves a descriptor out of the way of those that the process will have.
    func lift(_ descriptor: Int32, with batch: inout StubBatch) throws(RestoreError) -> Int32 {
        let lifted = batch.call(
            SYS_fcntl,
            UInt64(descriptor),
            UInt64(F_DUPFD_CLOEXEC),
            UInt64(temporaryDescriptors),
            for: "make room for a descriptor (RLIMIT_NOFILE)"
        )
        batch.call(SYS_close, UInt64(descriptor), for: "close a descriptor of ours")
        return Int32(truncatingIfNeeded: try runner.run(batch, on: leader)[lifted])
    }
}
