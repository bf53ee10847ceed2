// SPDX-License-Identifier: Apache-2.0
import Glibc
import Testing

@testable import LinuxSystem

@Suite("Where threads run while faults come one by one", .timeLimit(.minutes(5)))
struct ThreadPlacementTests {
    private static func two(_ first: Int, _ second: Int) -> CPUAffinity {
        var mask = CPUAffinity(cpu: max(first, second)).mask
        mask[min(first, second) / 8] |= 1 << UInt8(min(first, second) % 8)
        return CPUAffinity(mask: mask)
    }

    @Test func onlyWithTwoCPUsAndWithoutSpinning() throws {
        let both = Self.two(3, 70)
        #expect(both.cpus == [3, 70])
        #expect(ThreadPlacement(both, .waker, seed: 0, spin: .zero) != nil)
        #expect(ThreadPlacement(both, .waker, seed: 0, spin: .microseconds(1)) == nil)
        #expect(ThreadPlacement(CPUAffinity(cpu: 3), .waker, seed: 0, spin: .zero) == nil)
        #expect(ThreadPlacement(CPUAffinity(mask: [7, 0, 0, 0, 0, 0, 0, 0]), .waker, seed: 0, spin: .zero) == nil)
    }

    private struct Seen {
        var cpus: [Int]
        var nice: Int32
    }

    /// What a new thread may run on, and its nice value, before, while and after faults come one by one.
    private func seen(_ role: ThreadPlacement.Role, seed: UInt8, _ both: CPUAffinity) throws -> [Seen] {
        let result = Lock<[Seen]>([])
        let thread = try NamedThread("placed", urgency: role == .stream ? .background : .urgent) {
            func look() {
                guard let cpus = try? CPUAffinity().cpus, let nice = try? SchedulingAttributes().nice else { return }
                result.withLock { $0.append(Seen(cpus: cpus, nice: nice)) }
            }
            try? both.apply()
            guard let placement = ThreadPlacement(both, role, seed: seed, spin: .zero) else { return }
            let pace = FaultPace()
            placement.follow(pace)
            look()
            for _ in 0..<FaultPace.enough { pace.noted(isAlone: true, at: MonotonicTime.now.nanoseconds) }
            placement.follow(pace)
            look()
            for _ in 0..<FaultPace.enough { pace.noted(isAlone: false, at: MonotonicTime.now.nanoseconds) }
            placement.follow(pace)
            look()
        }
        thread.join()
        return result.withLock { $0 }
    }

    private static let cpus = (try? CPUAffinity().cpus) ?? []

    @Test(
        .enabled(if: cpus.count > 1, "needs two CPUs: this process may run on one"),
        arguments: [UInt8(0), 1, 254, 255]
    )
    func faultsHaveOneAndTheStreamTheOther(seed: UInt8) throws {
        let both = Self.two(Self.cpus[0], Self.cpus[1])
        let (faults, stream) = (both.cpus[Int(seed) % 2], both.cpus[1 - Int(seed) % 2])
        for (role, place) in [(ThreadPlacement.Role.waker, faults), (.source, faults), (.stream, stream)] {
            let seen = try seen(role, seed: seed, both)
            #expect(seen.map(\.cpus) == [both.cpus, [place], both.cpus], "\(role)")
        }
    }

    /// A faulting thread stays where it is if its waker has a low nice value.
    @Test(
        .enabled(if: cpus.count > 1, "needs two CPUs: this process may run on one"),
        .enabled(if: (try? SchedulingAttributes())?.policy == .other, "needs the usual policy: not under chrt")
    )
    func theWakerIsNoMoreThanOthersThere() throws {
        let both = Self.two(Self.cpus[0], Self.cpus[1])
        let own = try SchedulingAttributes(thread: getpid()).nice
        let nices = try seen(.waker, seed: 0, both).map(\.nice)
        // Without CAP_SYS_NICE no thread is raised, and nothing changes.
        let raised = nices[0]
        #expect(raised == own || raised == max(-20, own - 5))
        #expect(nices == [raised, own, raised])
        #expect(try seen(.source, seed: 0, both).map(\.nice) == [raised, raised, raised])
    }
}
