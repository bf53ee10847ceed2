// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing
internal import Userfaultfd

/// What the kernel does, as this program relies on it. The pages are always touched by a victim, never by the test.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct UserfaultfdTests {
    private static let page = PageSize.base

    // MARK: Pages

    @Test(arguments: [false, true])
    func aTouchWaitsForItsPage(shared: Bool) throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(8, shared: shared)
        try victim.tell("peek", start + 3 * Self.page)
        let fault = try victim.expectFault(at: start + 3 * Self.page)
        #expect(fault.kind == .missing && !fault.isWrite && fault.thread == victim.process.pid)
        #expect(try victim.install(6, at: start + 3 * Self.page) == .installed)
        #expect(try victim.answer() == 7)
        try victim.tell("poke", start + 4 * Self.page, 1)
        #expect(try victim.expectFault(at: start + 4 * Self.page).isWrite)
        #expect(try victim.install(0, at: start + 4 * Self.page, pages: 2) == .installed)
        #expect(try victim.answer() == 0)
    }

    @Test func aSystemCallWaitsForItsPages() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        try victim.tell("read-into", start + 100, Self.page)
        _ = try victim.expectFault(at: start)
        try victim.install(0, at: start)
        _ = try victim.expectFault(at: start + Self.page)
        try victim.install(1, at: start + Self.page)
        #expect(try victim.answer() == Int64(Self.page))
    }

    @Test func aPageThatIsPresentIsNotInstalledAgainAndWakesNobody() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        try victim.tell("peek", start)
        _ = try victim.expectFault(at: start)
        #expect(try victim.install(2, at: start, modes: .doNotWake) == .installed)
        #expect(try victim.install(5, at: start) == .alreadyPresent)
        try victim.uffd.wake(victim.range(start, 1))
        #expect(try victim.answer() == 3)
    }

    @Test func aCopyEndsBeforeAPageThatIsPresent() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(8)
        try victim.install(9, at: start + 2 * Self.page)
        #expect(try victim.install(0, at: start, pages: 4) == .partial(installedPages: 2))
        #expect(try victim.install(2, at: start + 2 * Self.page, pages: 2) == .alreadyPresent)
        #expect(try victim.install(3, at: start + 3 * Self.page) == .installed)
        for (index, expected) in [1, 2, 10, 4].enumerated() {
            try victim.tell("peek", start + UInt64(index) * Self.page)
            #expect(try victim.answer() == Int64(expected))
        }
    }

    @Test func aCopyAcrossTheBorderOfTwoMappingsInstallsNothing() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(8)
        try victim.tell("protect", start + 4 * Self.page, 4, 1)
        #expect(try victim.answer() == 0)
        #expect(try victim.install(0, at: start + 2 * Self.page, pages: 4) == .vanished)
        #expect(try victim.install(0, at: start + 2 * Self.page, pages: 2) == .installed)
        #expect(try victim.install(0, at: start + 4 * Self.page, pages: 2) == .installed)
    }

    @Test func aZeroPageStays() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        try victim.tell("peek", start)
        _ = try victim.expectFault(at: start)
        #expect(try victim.uffd.zero(victim.range(start, 2)) == .installed)
        #expect(try victim.answer() == 0)
        #expect(try victim.install(0, at: start) == .alreadyPresent)
        #expect(try victim.uffd.zero(victim.range(start, 1)) == .alreadyPresent)
    }

    @Test func whatIsRegisteredIsToldWithoutInstallingAnything() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        let page = { (index: UInt64) in VirtualAddress(start + index * Self.page) }
        #expect(victim.uffd.isRegistered(page(1)) == true)
        try victim.tell("peek", start + Self.page)
        _ = try victim.expectFault(at: start + Self.page)
        #expect(victim.uffd.isRegistered(page(1)) == true)
        try victim.install(4, at: start + Self.page)
        #expect(try victim.answer() == 5)
        // With a page there as well.
        #expect(victim.uffd.isRegistered(page(1)) == true)
        try victim.uffd.unregister(victim.range(start, 4))
        #expect(victim.uffd.isRegistered(page(1)) == false)
        #expect(victim.uffd.isRegistered(VirtualAddress(Self.page)) == false)
    }

    @Test func aPoisonedPageIsAnErrorUntilItIsInstalled() throws {
        guard try Userfaultfd.offeredFeatures().contains(.poison) else { return }
        let victim = try RegisteredVictim(features: [.lazyRestore, .poison])
        let start = try victim.map(4)
        #expect(try victim.uffd.poison(victim.range(start, 1)) == .installed)
        try victim.tell("read-into", start, 8)
        #expect(try victim.answer() == -Int64(EFAULT))
        // Only bytes take its place.
        #expect(try victim.uffd.zero(victim.range(start, 1)) == .alreadyPresent)
        #expect(try victim.install(4, at: start) == .installed)
        try victim.tell("peek", start)
        #expect(try victim.answer() == 5)
    }

    @Test func aCopyOverwritesAGuardPage() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        try victim.tell("guard", start + Self.page, 1)
        guard try victim.answer() == 0 else { return }
        #expect(try victim.uffd.zero(victim.range(start + Self.page, 1)) == .alreadyPresent)
        // Nobody is told, which is why guard pages must be known before.
        #expect(try victim.install(7, at: start + Self.page) == .installed)
        try victim.tell("peek", start + Self.page)
        #expect(try victim.answer() == 8)
    }

    /// Why WhatIsCarried names a limit: neither call is told, and afterwards the page is missing as it was before.
    @Test func aGuardThatComesAndGoesLeavesNoTrace() throws {
        let victim = try RegisteredVictim()
        try victim.uffd.setNonBlocking()
        let start = try victim.map(1)
        try victim.tell("guard", start, 1)
        #expect(try victim.answer() == 0)
        try victim.tell("unguard", start, 1)
        #expect(try victim.answer() == 0)
        #expect(try victim.uffd.readEvents(into: victim.events) == 0)
        try victim.tell("peek", start)
        #expect(try victim.expectFault(at: start).kind == .missing)
        #expect(try victim.install(4, at: start) == .installed)
        #expect(try victim.answer() == 5)
    }

    @Test func pagesInstalledProtectedAreClean() throws {
        guard try Userfaultfd.offeredFeatures().contains(.writeProtectAsync) else { return }
        let victim = try RegisteredVictim(features: [.lazyRestore, .writeProtect, .writeProtectAsync])
        let start = try victim.map(4, modes: [.missing, .writeProtect])
        #expect(try victim.install(0, at: start, pages: 3, modes: .writeProtect) == .installed)
        try victim.tell("poke", start + Self.page, 77)
        #expect(try victim.answer() == 0)
        let query = PageQuery(all: [.present, .written], returning: [.writeProtectAllowed])
        let pagemap = try Pagemap(pid: victim.process.pid)
        let written = try pagemap.scan(victim.range(start, 4), query)
        #expect(written.map(\.range) == [victim.range(start + Self.page, 1)])
        #expect(written.first?.categories == .writeProtectAllowed)
        #expect(try victim.uffd.writeProtect(victim.range(start, 3), armed: true) == .installed)
        #expect(try pagemap.scan(victim.range(start, 4), query).isEmpty)
    }

    // MARK: Events

    @Test func aForkedChildAsksForItsOwnPages() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        try victim.tell("fork-peek", start)
        guard case .fork(let number) = try victim.next().first else { throw TestFailure("no fork") }
        let child = Userfaultfd.adoptAgreed(OwnedDescriptor(adopting: number), features: victim.uffd.features)
        guard case .pageFault(let fault) = try RegisteredVictim.next(child, victim.events).first else {
            throw TestFailure("no fault of the child")
        }
        #expect(fault.address.rawValue == start && fault.thread != victim.process.pid)
        let outcome = try child.copy(from: victim.buffer, at: 0, to: VirtualAddress(start), pages: 1)
        #expect(outcome == .installed)
        #expect(try victim.answer() == 1)
        // The parent's page is still missing.
        try victim.tell("peek", start)
        _ = try victim.expectFault(at: start)
        try victim.install(1, at: start)
        #expect(try victim.answer() == 2)
        let afterwards = try child.copy(from: victim.buffer, at: 0, to: VirtualAddress(start + Self.page), pages: 1)
        #expect(afterwards == .targetGone)
    }

    @Test func nothingIsInstalledWhileAForkWaitsForItsEventToBeRead() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        try victim.install(3, at: start)
        try victim.tell("fork-peek", start)
        var watch = pollfd(fd: victim.uffd.descriptor, events: Int16(POLLIN), revents: 0)
        try wait(for: "the fork") { unsafe poll(&watch, 1, 10) == 1 }
        #expect(try victim.install(0, at: start + Self.page) == .interrupted)
        guard case .fork(let number) = try victim.next().first else { throw TestFailure("no fork") }
        #expect(try victim.answer() == 4)
        close(number)
        #expect(try victim.install(0, at: start + Self.page) == .installed)
    }

    @Test func aMovedMappingAsksAtItsNewPlace() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        try victim.tell("map", 4)
        let place = try UInt64(victim.answer())
        try victim.tell("move", start, 4, place)
        // The unmapping of the old place is told as well, behind the move: it must not take away what has moved.
        let moved = UserfaultEvent.remap(
            from: VirtualAddress(start),
            to: VirtualAddress(place),
            byteCount: 4 * Self.page
        )
        var seen: [UserfaultEvent] = []
        while seen.count < 2 { seen += try victim.next() }
        #expect(seen == [moved, .unmap(victim.range(start, 4))])
        #expect(try victim.answer() == Int64(place))
        #expect(try victim.install(0, at: start) == .vanished)
        try victim.tell("peek", place + Self.page)
        _ = try victim.expectFault(at: place + Self.page)
        try victim.install(5, at: place + Self.page)
        #expect(try victim.answer() == 6)
    }

    @Test func pagesThatWereThrownAwayAreMissingAgain() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        try victim.install(0, at: start, pages: 4)
        try victim.tell("remove", start + Self.page, 2)
        #expect(try victim.next().first == .remove(victim.range(start + Self.page, 2)))
        #expect(try victim.answer() == 0)
        try victim.tell("peek", start + Self.page)
        _ = try victim.expectFault(at: start + Self.page)
        #expect(try victim.uffd.zero(victim.range(start + Self.page, 1)) == .installed)
        #expect(try victim.answer() == 0)
    }

    @Test func anUnmappedRangeIsReportedAndGone() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        try victim.tell("unmap", start + Self.page, 3)
        #expect(try victim.next().first == .unmap(victim.range(start + Self.page, 3)))
        #expect(try victim.answer() == 0)
        #expect(try victim.install(0, at: start + Self.page) == .vanished)
        #expect(try victim.install(0, at: start) == .installed)
    }

    @Test func aStackThatGrowsAsksBelowItsMapping() throws {
        let victim = try RegisteredVictim()
        let maps = try ProcessMaps.read(victim.process.pid)
        let stack = try #require(maps.first { $0.name == "[stack]" }).range
        try victim.uffd.register(stack, modes: .missing)
        try victim.tell("descend", 200)
        var below = 0
        var answer: String?
        let end = ContinuousClock.now + patience
        while answer == nil, ContinuousClock.now < end {
            var watch = pollfd(fd: victim.uffd.descriptor, events: Int16(POLLIN), revents: 0)
            guard unsafe poll(&watch, 1, 20) == 1 else {
                // No page is asked for: the answer is there, or will be soon.
                answer = try? victim.process.output?.next(within: .milliseconds(1))
                continue
            }
            for index in 0..<(try victim.uffd.readEvents(into: victim.events)) {
                guard case .pageFault(let fault) = victim.events[index] else { continue }
                if fault.address < stack.lowerBound { below += 1 }
                let page = fault.address.rawValue & ~(Self.page - 1)
                _ = try victim.uffd.zero(victim.range(page, 1))
            }
        }
        #expect(answer == "c8")
        #expect(below > 0)
    }

    // MARK: Holders

    @Test func anotherHolderTakesOverWhoeverWaits() throws {
        let victim = try RegisteredVictim()
        let second = try victim.uffd.duplicate()
        let start = try victim.map(4)
        try victim.tell("peek", start)
        _ = try victim.expectFault(at: start)
        // The first holder has read the message and does no more. Nothing is there for the second until it wakes everybody.
        #expect(try second.readEvents(into: victim.events) == 0)
        try second.wake(Userfaultfd.everything)
        guard case .pageFault(let fault) = try RegisteredVictim.next(second, victim.events).first else {
            throw TestFailure("no fault")
        }
        #expect(fault.address.rawValue == start)
        #expect(try second.copy(from: victim.buffer, at: 0, to: VirtualAddress(start), pages: 1) == .installed)
        #expect(try victim.answer() == 1)
    }

    @Test func whenTheLastHolderGoesWaitingThreadsReadZeros() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        try victim.tell("peek", start)
        _ = try victim.expectFault(at: start)
        // Another file takes the number: that closes the userfaultfd.
        let null = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
        #expect(dup2(null, victim.uffd.descriptor) == victim.uffd.descriptor)
        close(null)
        #expect(try victim.answer() == 0)
    }

    @Test func anotherHolderKeepsZerosAway() throws {
        let victim = try RegisteredVictim()
        let second = try victim.uffd.duplicate()
        let start = try victim.map(4)
        let null = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
        #expect(dup2(null, victim.uffd.descriptor) == victim.uffd.descriptor)
        close(null)
        try victim.tell("peek", start)
        _ = try RegisteredVictim.next(second, victim.events)
        #expect(try second.copy(from: victim.buffer, at: 0, to: VirtualAddress(start), pages: 1) == .installed)
        #expect(try victim.answer() == 1)
    }

    @Test func aRangeBelongsToOneUserfaultfd() throws {
        let victim = try RegisteredVictim()
        let other = try victim.another()
        let start = try victim.map(4)
        do {
            try other.register(victim.range(start, 1), modes: .missing)
            Issue.record("no error")
        } catch {
            #expect(error.errno == .busy)
        }
    }

    @Test func aProcessThatHasEndedIsTold() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        victim.process.end()
        #expect(try victim.install(0, at: start) == .targetGone)
    }

    @Test func theKernelOffersWhatARestoreNeeds() throws {
        #expect(try Userfaultfd.offeredFeatures().isSuperset(of: .lazyRestore))
    }

    // MARK: Freezing

    @Test func aThreadInASystemCallThatWaitsForAPageCannotBeFrozen() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        let pid = victim.process.pid
        try victim.tell("read-into", start, 8)
        _ = try victim.expectFault(at: start)
        let code = Lock<TraceError.Code?>(nil)
        // A thread of its own: when it ends the kernel detaches from the thread that did not stop.
        let tracer = try NamedThread("tracer") {
            do throws(TraceError) {
                try TraceeGroup.freeze(pid, deadline: .after(.milliseconds(200))).thaw()
            } catch {
                code.withLock { $0 = error.code }
            }
        }
        tracer.join()
        #expect(code.withLock { $0 } == .timedOut)
        try victim.install(0, at: start)
        #expect(try victim.answer() == 8)
        #expect(try ProcessStatus.read(pid).tracer == 0)
    }
}
