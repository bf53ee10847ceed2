// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import Paging
internal import TestSupport

/// What a page of the victim's arena must hold.
enum ModelPage: Equatable {
    case unmapped
    /// All words of the page.
    case holds(UInt64)
    /// Freed (MADV_FREE): this or zeros.
    case holdsOrZero(UInt64)
    /// A command failed in the middle.
    case unknown
}

/// One command to the victim, and what it does to the model.
struct ModelCommand {
    enum Kind: CaseIterable {
        case fill, kernelFill, peek, unmap, map, mapShared, move, hide, readOnly, writable, forget, free, fork
    }

    var kind: Kind
    /// Places in the arena.
    var pages: Range<Int>
    /// Where a move leads.
    var target = 0
    var value: UInt64 = 0

    func words(_ arena: Region) -> (String, [UInt64]) {
        let start = arena.page(UInt64(pages.lowerBound))
        let count = UInt64(pages.count)
        switch kind {
        case .fill: return ("try-fill", [start, count, value])
        case .kernelFill: return ("kernel-fill", [start, count, value & 0xff])
        case .peek: return ("try-peek", [start, count])
        case .unmap: return ("unmap", [start, count])
        case .map: return ("map-at", [start, count, 0])
        case .mapShared: return ("map-at", [start, count, 1])
        case .move: return ("move", [start, count, arena.page(UInt64(target))])
        case .hide: return ("protect", [start, count, UInt64(PROT_NONE)])
        case .readOnly: return ("protect", [start, count, UInt64(PROT_READ)])
        case .writable: return ("protect", [start, count, UInt64(PROT_READ | PROT_WRITE)])
        case .forget: return ("advise", [start, count, UInt64(MADV_DONTNEED)])
        case .free: return ("advise", [start, count, UInt64(MADV_FREE)])
        case .fork: return ("fork-fill", [start, count, value])
        }
    }
}

/// Random commands and the memory that they must make.
struct RandomProgram {
    let arena: Region
    private(set) var model: [ModelPage]

    /// Shared memory keeps what it holds when it is told to forget, and shows what a child writes.
    private enum Kind {
        case `private`, shared, unknown
    }
    private var kinds: [Kind]
    private var random: SeededGenerator
    private var nextValue: UInt64 = 1

    init(arena: Region, seed: UInt64) {
        self.arena = arena
        model = Array(repeating: .holds(0), count: Int(arena.pages))
        kinds = Array(repeating: .private, count: Int(arena.pages))
        random = SeededGenerator(seed: seed)
    }

    mutating func int(_ range: Range<Int>) -> Int { Int.random(in: range, using: &random) }

    mutating func one(in count: Int) -> Bool { random.one(in: count) }

    mutating func command() -> ModelCommand {
        // Writes are half of all.
        let others = ModelCommand.Kind.allCases.filter { $0 != .fill }
        let kind = random.one(in: 2) ? .fill : others.randomElement(using: &random) ?? .fill
        // Often a whole huge page.
        let isHuge = kind != .fork && random.one(in: 8)
        let count = isHuge ? 512 : int(1..<24)
        let start = isHuge ? int(0..<model.count / 512) * 512 : int(0..<model.count - count)
        var command = ModelCommand(kind: kind, pages: start..<start + count)
        if kind == .move {
            // Aligned moves take whole page tables.
            let target = isHuge ? int(0..<model.count / 512) * 512 : int(0..<model.count - count)
            if target..<target + count ~= start || command.pages ~= target { return self.command() }
            command.target = target
        }
        command.value = nextValue * 0x0101_0101_0101_0101
        nextValue = nextValue % 255 + 1
        return command
    }

    /// Applies what the victim has answered.
    mutating func apply(_ command: ModelCommand, _ answer: Int64) {
        let reached = command.pages.prefix(Int(max(0, answer)))
        switch command.kind {
        case .fill, .kernelFill:
            for page in reached { model[page] = .holds(command.value) }
        case .fork:
            // The child has a copy of what is private.
            for page in reached { change(page, ifPrivate: nil, ifShared: .holds(command.value)) }
        case .unmap: set(command.pages, .unmapped, .private)
        case .map: set(command.pages, .holds(0), .private)
        case .mapShared: set(command.pages, .holds(0), .shared)
        case .move: move(command, succeeded: answer >= 0)
        case .peek, .hide, .readOnly, .writable: break
        case .forget:
            for page in command.pages { change(page, ifPrivate: .holds(0), ifShared: nil) }
        case .free:
            for page in command.pages {
                guard case .holds(let value) = model[page] else { continue }
                change(page, ifPrivate: .holdsOrZero(value), ifShared: nil)
            }
        }
    }

    private mutating func set(_ pages: Range<Int>, _ content: ModelPage, _ kind: Kind) {
        for page in pages {
            model[page] = content
            kinds[page] = kind
        }
    }

    /// What happens to a page that is mapped depends on what kind it is.
    private mutating func change(_ page: Int, ifPrivate: ModelPage?, ifShared: ModelPage?) {
        guard model[page] != .unmapped, model[page] != .unknown else { return }
        switch kinds[page] {
        case .private: model[page] = ifPrivate ?? model[page]
        case .shared: model[page] = ifShared ?? model[page]
        case .unknown: model[page] = .unknown
        }
    }

    private mutating func move(_ command: ModelCommand, succeeded: Bool) {
        let target = command.target..<command.target + command.pages.count
        guard succeeded else {
            // The kernel may have moved a part, or only have cleared the target.
            set(command.pages, .unknown, .unknown)
            return set(target, .unknown, .unknown)
        }
        let contents = Array(model[command.pages])
        let moved = Array(kinds[command.pages])
        set(command.pages, .unmapped, .private)
        // Linux 6.17 moves several mappings at one go, and leaves the target alone where there is a hole between them.
        for (offset, page) in target.enumerated() where contents[offset] != .unmapped {
            model[page] = contents[offset]
            kinds[page] = contents[offset] == .unknown ? .unknown : moved[offset]
        }
    }
}
