// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import TestSupport
internal import Testing

@Suite("Passing descriptors", .serialized, .timeLimit(.minutes(5)))
struct DescriptorPassingTests {
    @Test func descriptorsArriveInOrderWithTheirBytes() throws {
        var pair = try DescriptorPair.sockets()
        let sender = pair.takeFirst()
        let receiver = pair.takeSecond()
        let (first, second) = (try EventDescriptor(), try EventDescriptor())
        try DescriptorPassing.send([first.descriptor, second.descriptor], with: [4, 5], over: sender.rawValue)
        var received = try DescriptorPassing.receive(maximum: 2, over: receiver.rawValue, until: soon())
        #expect(received.bytes == [4, 5])
        #expect(received.count == 2)
        guard let copy = received.next() else { throw TestFailure("no descriptor") }
        // The same open file: a count that is added here is seen there.
        try DescriptorIO.write([1, 0, 0, 0, 0, 0, 0, 0], to: copy.rawValue)
        #expect(first.drain() == 1)
        #expect(second.drain() == 0)
        #expect(received.count == 1)
    }

    @Test func bytesWithoutDescriptorsAndTheEndAreToldApart() throws {
        var pair = try DescriptorPair.sockets()
        let receiver = pair.takeSecond()
        do {
            let sender = pair.takeFirst()
            try DescriptorPassing.send([], with: [1], over: sender.rawValue)
        }
        let bytes = try DescriptorPassing.receive(over: receiver.rawValue, until: soon())
        #expect(bytes.bytes == [1])
        #expect(bytes.count == 0)
        let end = try DescriptorPassing.receive(over: receiver.rawValue, until: soon())
        #expect(end.bytes == [])
    }

    @Test func nothingToReceiveEndsAtTheDeadline() throws {
        var pair = try DescriptorPair.sockets()
        let sender = pair.takeFirst()
        let receiver = pair.takeSecond()
        let error = #expect(throws: SystemCallError.self) {
            _ = try DescriptorPassing.receive(over: receiver.rawValue, until: .after(.milliseconds(5)))
        }
        #expect(error?.errno == .timedOut)
        _ = sender.rawValue
    }

    @Test func aGoneReceiverIsAnErrorAndNoSignal() throws {
        var pair = try DescriptorPair.sockets()
        let sender = pair.takeFirst()
        _ = pair.takeSecond()
        let error = #expect(throws: SystemCallError.self) { try DescriptorPassing.send([], over: sender.rawValue) }
        #expect(error?.errno == .brokenPipe)
    }

    @Test func whatIsNotTakenIsClosed() async {
        await #expect(processExitsWith: .success) {
            var pair = try DescriptorPair.sockets()
            let sender = pair.takeFirst()
            let receiver = pair.takeSecond()
            let event = try EventDescriptor()
            func round(_ take: Int, maximum: Int) throws {
                try DescriptorPassing.send(
                    [event.descriptor, event.descriptor, event.descriptor],
                    over: sender.rawValue
                )
                var received = try DescriptorPassing.receive(
                    maximum: maximum,
                    over: receiver.rawValue,
                    until: soon()
                )
                for _ in 0..<take { _ = received.next() }
            }
            let growth = try descriptorGrowth {
                for take in 0...3 { try round(take, maximum: 3) }
                // More than there is room for: all of them are closed, those that fitted as well.
                let error = #expect(throws: SystemCallError.self) { try round(0, maximum: 2) }
                #expect(error?.errno.rawValue == 90)
            }
            #expect(growth < 15)
        }
    }

    @Test func descriptorsAreClosedWithTheirOwners() async {
        await #expect(processExitsWith: .success) {
            let growth = try descriptorGrowth {
                var pair = try DescriptorPair.pipe()
                let reader = pair.takeFirst()
                let copy = try reader.duplicate()
                let again = OwnedDescriptor(adopting: copy.release())
                #expect(again.rawValue != reader.rawValue)
                _ = try Poller()
                _ = try Listener(host: "127.0.0.1", port: 0)
                _ = try DescriptorPair.sockets()
                _ = try FileReading.read("/proc/self/maps")
            }
            #expect(growth < 15)
        }
    }

    @Test func theLeakDetectorSeesALeak() async {
        await #expect(processExitsWith: .success) {
            let growth = try descriptorGrowth {
                // Given away to nobody.
                let null = try FileReading.open("/dev/null")
                _ = null.release()
            }
            #expect(growth >= 30)
        }
    }
}

/// By how much the number of open descriptors grows in 30 rounds of `body`.
///
/// The process should have no other tests: call it in an exit test. A few descriptors more are the test library's.
private func descriptorGrowth(_ body: () throws -> Void) throws -> Int {
    try body()
    let before = try namesInFolder("/proc/self/fd").count
    for _ in 0..<30 { try body() }
    return try namesInFolder("/proc/self/fd").count - before
}
