// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import LinuxSystem
import TestSupport
import Testing

/// What a thread that talks hears of, besides messages.
@Suite(.timeLimit(.minutes(5))) struct ControlLoopTests {
    private func token(_ event: ControlLoop.Event) -> UInt64? {
        if case .ready(let token) = event { token } else { nil }
    }

    @Test func whatStaysReadableHidesNothing() throws {
        let loop = try ControlLoop(signals: SignalDescriptor([.user2]), sendTimeout: patience)
        let descriptors = try (0..<3).map { _ in try EventDescriptor() }
        for (index, descriptor) in descriptors.enumerated() {
            descriptor.signal()
            try loop.watch(descriptor.descriptor, token: UInt64(index + 1))
        }
        let tokens = try (0..<6).map { _ in try token(loop.next(until: .after(patience))) }
        #expect(tokens == [1, 2, 3, 1, 2, 3])
        descriptors[1].drain()
        #expect(try (0..<3).map { _ in try token(loop.next(until: .after(patience))) } == [1, 3, 1])
        try loop.unwatch(descriptors[0].descriptor)
        try loop.unwatch(descriptors[2].descriptor)
        #expect(try token(loop.next(until: .immediate)) == nil)
    }
}
