// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import TestSupport
internal import Testing

@Suite("Files", .serialized, .timeLimit(.minutes(5)))
struct FileTests {
    @Test(arguments: [0, 1, 4095, 4096, 4097, 70_000])
    func aFileIsReadWhole(_ size: Int) throws {
        let path = try Scratch("read").file("file")
        let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        try writeFile(path, bytes: bytes)
        #expect(try FileReading.read(path, limit: size) == bytes)
        #expect(try FileStatus(path: path).size == Int64(size))
        guard size > 0 else { return }
        let error = #expect(throws: SystemCallError.self) { try FileReading.read(path, limit: size - 1) }
        #expect(error?.errno.rawValue == EFBIG)
    }

    @Test func foldersAreMadeListedAndTheirFilesTakenAway() throws {
        let scratch = try Scratch("folders")
        let folder = scratch.file("a/b")
        try Folder.make(folder, permissions: 0o700)
        try Folder.make(folder, permissions: 0o700)
        #expect(try FileStatus(path: folder).permissions == 0o700)
        for name in ["2", "1"] { try AtomicFile.write([1], to: "\(folder)/\(name)", .onDisk) }
        #expect(try Folder.names(in: folder) == ["1", "2"])
        try Folder.remove("\(folder)/1")
        try Folder.remove("\(folder)/1")
        #expect(try Folder.names(in: folder) == ["2"])
        let file = #expect(throws: SystemCallError.self) { try Folder.make("\(folder)/2", permissions: 0o700) }
        #expect(file?.errno == .notDirectory)
        let none = #expect(throws: SystemCallError.self) { try Folder.names(in: "\(folder)/none") }
        #expect(none?.errno == .noEntry)
    }

    @Test func aFileOfProcIsReadWholeAlthoughItsSizeIsZero() throws {
        let maps = try FileReading.read("/proc/self/maps")
        #expect(String(decoding: maps, as: UTF8.self).contains("[stack]"))
        #expect(maps.last == UInt8(ascii: "\n"))
        // In pieces of a page as well.
        #expect(try FileReading.read("/proc/self/smaps").count > 16384)
    }

    @Test func aDescriptorIsReadFromItsBeginningWhateverItsPosition() throws {
        let path = try Scratch("position").file("file")
        try writeFile(path, "hello")
        let file = try FileReading.open(path)
        #expect(try DescriptorIO.read(file.rawValue, limit: 3) == Array("hel".utf8))
        #expect(try FileReading.read(file.rawValue, name: path) == Array("hello".utf8))
        #expect(try DescriptorIO.read(file.rawValue, limit: 3) == Array("lo".utf8))
    }

    @Test func aFileThatIsMissingIsNamed() {
        let error = #expect(throws: SystemCallError.self) { try FileReading.read("/nonexistent/file") }
        #expect(error?.errno == .noEntry)
        #expect(error?.description.contains("/nonexistent/file") == true)
    }

    @Test func aLinkIsReadAsBytes() throws {
        let path = try Scratch("link").file("link")
        #expect(unsafe symlink("over/there", path) == 0)
        #expect(try FileReading.link(path) == Array("over/there".utf8))
        #expect(throws: SystemCallError.self) { try FileReading.link("/proc") }
    }

    @Test func theKindOfAFileIsTold() throws {
        #expect(try FileStatus(path: "/").kind == .directory)
        #expect(try FileStatus(path: "/dev/null").kind == .characterDevice)
        #expect(try FileStatus(path: "/dev/null").representedDevice == 0x103)
        var pipe = try DescriptorPair.pipe()
        let reader = pipe.takeFirst()
        #expect(try FileStatus(descriptor: reader.rawValue).kind == .fifo)
        var sockets = try DescriptorPair.sockets()
        let socket = sockets.takeFirst()
        #expect(try FileStatus(descriptor: socket.rawValue).kind == .socket)
    }

    @Test func aFileIsReplacedAtOnce() throws {
        let scratch = try Scratch("atomic")
        let path = scratch.file("pid")
        try AtomicFile.write(Array("1\n".utf8), to: path)
        let old = try FileReading.open(path)
        try AtomicFile.write(Array("22\n".utf8), to: path, permissions: 0o600)
        #expect(try readText(path) == "22\n")
        #expect(try FileStatus(path: path).permissions == 0o600)
        // Whoever has the old one open goes on reading the old one.
        #expect(try FileReading.read(old.rawValue, name: path) == Array("1\n".utf8))
        #expect(try namesInFolder(scratch.path) == ["pid"])
    }

    @Test func nothingIsLeftOverWhenReplacingFails() throws {
        let scratch = try Scratch("atomic-fails")
        // A folder that is not empty cannot be replaced; it is no regular file either, and cannot be opened for writing.
        #expect(unsafe mkdir(scratch.file("folder"), 0o755) == 0)
        #expect(throws: SystemCallError.self) { try AtomicFile.write([1], to: scratch.file("folder")) }
        #expect(throws: SystemCallError.self) { try AtomicFile.write([1], to: scratch.file("none/file")) }
        #expect(try namesInFolder(scratch.path) == ["folder"])
    }

    @Test func aFIFOIsWrittenInto() throws {
        let path = try Scratch("fifo").file("fifo")
        #expect(unsafe mkfifo(path, 0o600) == 0)
        let thread = try NamedThread("writer") { try? AtomicFile.write([1, 2], to: path) }
        let reader = try FileReading.open(path)
        #expect(try DescriptorIO.readToEnd(reader.rawValue, limit: 10, until: soon()) == [1, 2])
        thread.join()
        #expect(try FileStatus(path: path).kind == .fifo)
    }

    @Test func randomBytesDiffer() throws {
        let (first, second) = (try RandomBytes.make(32), try RandomBytes.make(32))
        #expect(first.count == 32)
        #expect(first != second)
        #expect(try RandomBytes.make(0) == [])
        #expect(try Set(RandomBytes.make(100_000)).count == 256)
    }
}
