// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing
internal import Userfaultfd

@testable internal import LazyRestore

/// Who a page fault names.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: pid namespaces, userfaultfd"))
struct ThreadLookupTests {
    /// In a namespace of its own a process has an id that is somebody else's here.
    @Test func idsAreThoseOfTheNamespaceOfTheProcess() throws {
        let words = ["--pid", "--fork", "--kill-child", BuiltProduct.victim, "uffd-commands"]
        try withProcess("/usr/bin/unshare", words, options: .init(input: .pipe)) { outside in
            let line = try #require(try outside.output?.next())
            #expect(line.hasPrefix("ready 1"))
            let process = try #require(try ProcFile.children(of: outside.pid).first)
            let lookup = ThreadLookup(pid: process)
            #expect(lookup.find(1) == process)
            #expect(lookup.find(process) == nil)
            #expect(lookup.find(getpid()) == nil)
        }
    }

    @Test func withoutANamespaceIdsAreOurs() {
        let lookup = ThreadLookup(pid: getpid())
        #expect(lookup.find(getpid()) == getpid())
        #expect(lookup.find(1) == 1)
    }

    /// The kernel's own touch, which nothing interrupts, is told from the program's.
    @Test func aWaitInsideOfASystemCallIsTold() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(4)
        let lookup = ThreadLookup(pid: victim.process.pid)
        try victim.tell("peek", start)
        let outside = try victim.expectFault(at: start)
        #expect(!lookup.isInSystemCall(outside.thread))
        try victim.install(0, at: start)
        #expect(try victim.answer() == 1)
        try victim.tell("read-into", start + PageSize.base, 8)
        let inside = try victim.expectFault(at: start + PageSize.base)
        #expect(lookup.isInSystemCall(inside.thread))
        try victim.install(1, at: start + PageSize.base)
        #expect(try victim.answer() == 8)
        victim.process.end()
        #expect(!lookup.isInSystemCall(inside.thread))
    }
}
