// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import TestSupport

/// A fault, as `THAW_FAULTS` names it.
struct Fault: Sendable, CustomStringConvertible {
    enum Side: String, Sendable {
        case source
        case destination
    }

    let side: Side
    let point: FaultPoint
    var hit = 1
    let action: String

    var description: String { "\(point)@\(hit)=\(action)" }
}

/// What is to fail in one move.
struct Plan: Sendable, CustomStringConvertible {
    var faults: [Fault]
    /// Those that make a situation in which the others can come to pass.
    var before: [Fault] = []
    /// Whether the source goes on beside its copy: for once two are to run.
    var clones = false

    /// Whether pages are copied while the process still runs.
    var preCopies: Bool { (faults + before).contains { "\($0.point)".contains("PreCop") } }

    var description: String {
        (faults.map { "\($0.side) \($0)" } + before.map { "after \($0.side) \($0)" }).joined(separator: " and ")
    }

    func environment(of side: Fault.Side) -> [String] {
        let here = (before + faults).filter { $0.side == side }
        return here.isEmpty ? [] : ["THAW_FAULTS=" + here.map(\.description).joined(separator: ",")]
    }
}

extension Plan {
    private static let actions = ["kill", "stop", "close", "half-close", "delay:300"]
    /// Hits that are in the middle of something rather than at its beginning.
    private static let hits: [FaultPoint: Int] = [.sourcePagesStreamed: 3, .destinationPagesStreamed: 3]

    private static func side(of point: FaultPoint) -> Fault.Side? {
        if "\(point)".hasPrefix("source") { return .source }
        return "\(point)".hasPrefix("destination") ? .destination : nil
    }

    private static func before(_ point: FaultPoint) -> [Fault] {
        switch point {
        case .sourceControlReturned, .sourceResumed, .destinationReconnecting, .destinationResumeAsked,
            .destinationResumed:
            [Fault(side: .destination, point: .destinationPagesStreamed, action: "close")]
        default: []
        }
    }

    /// Every point with every fault that it can have.
    static var singles: [Plan] {
        var plans: [Plan] = []
        for point in FaultPoint.allCases {
            guard let side = side(of: point) else { continue }
            for action in actions {
                let fault = Fault(side: side, point: point, hit: hits[point] ?? 1, action: action)
                plans.append(Plan(faults: [fault], before: before(point)))
            }
        }
        return plans + refusals
    }

    /// What the kernel may say: no room on the disk, no more threads, no more memory.
    private static var refusals: [Plan] {
        let records = (1...3).map { Fault(side: .source, point: .recordWritten, hit: $0, action: "errno:28") }
        let others = [Fault.Side.source, .destination].flatMap { side in
            (1...3).flatMap { hit in
                [
                    Fault(side: side, point: .threadStarted, hit: hit, action: "errno:11"),
                    Fault(side: side, point: .bufferMade, hit: hit, action: "errno:12"),
                ]
            }
        }
        return (records + others).map { Plan(faults: [$0]) }
    }

    /// Two faults in each, chosen at random.
    static func doubles(seed: UInt64, count: Int) -> [Plan] {
        var random = SeededGenerator(seed: seed)
        let points = FaultPoint.allCases.filter { side(of: $0) != nil }
        func fault() -> Fault? {
            guard let point = points.randomElement(using: &random), let side = side(of: point),
                let action = actions.randomElement(using: &random)
            else { return nil }
            // Most places are come to once; again only behind a break.
            let hit =
                hits[point] == nil
                ? Int.random(in: 0..<5, using: &random) / 4 + 1 : Int.random(in: 1...6, using: &random)
            return Fault(side: side, point: point, hit: hit, action: action)
        }
        return (0..<count).map { _ in
            let faults = [fault(), fault()].compactMap(\.self)
            return Plan(faults: faults, before: faults.first.map { before($0.point) } ?? [])
        }
    }
}
