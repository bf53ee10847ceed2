// SPDX-License-Identifier: Apache-2.0
import Glibc
import PageWire
import TestSupport
import Testing

/// The model in `Tests/Model` decides by the transitions of the two machines, not by what somebody once wrote down of them.
///
/// `Tests/Model/machines.pml` is the whole of both, every event in every state. After a change: run with `THAW_RECORD_GOLDEN=1`,
/// then `.ci/check model`.
@Suite(.timeLimit(.minutes(5)))
struct CommitModelTests {
    @Test func theModelHasTheTransitionsOfTheMachines() throws {
        let path = "\(BuiltProduct.package)/Tests/Model/machines.pml"
        let text =
            MachineText.preamble + MachineText.enumerations(.source, .destination)
            + MachineText.source.promela() + "\n" + MachineText.destination.promela()
        // SAFETY: nothing changes the environment of a test run.
        if unsafe getenv("THAW_RECORD_GOLDEN") != nil { try writeFile(path, text) }
        let recorded = try readText(path)
        #expect(
            recorded == text,
            "run the tests with THAW_RECORD_GOLDEN=1 to give the model the machines as they are, then .ci/check model"
        )
    }

    @Test func everyStateIsReached() {
        #expect(
            MachineText.source.states == ["waiting", "frozen", "ended", "recording", "granted", "running", "completed"]
        )
        let destination = ["building", "awaitingGrant", "ended", "releasing", "draining", "completing", "acknowledged"]
        #expect(MachineText.destination.states == destination)
    }

    /// A change of one transition changes the text: what the test compares depends on it.
    @Test func theTextTellsOneTransitionFromAnother() {
        let lines = MachineText.source.promela().split(separator: "\n")
        #expect(
            lines.contains(
                "    :: state == source_granted -> action = action_resolve; resolution = resolution_stayFrozen"
            )
        )
        #expect(
            lines.contains(
                "    :: state == source_frozen -> state = source_ended; action = action_resolve; resolution = resolution_thaw"
            )
        )
    }
}

/// A machine as a table, and that as Promela.
private struct MachineText: Sendable {
    /// A way through the machine, and the answer to its last event.
    typealias Walk = @Sendable ([Int]) -> (state: String, answer: String)

    let name: String
    let events: [String]
    let walk: Walk

    static let preamble = """
        /* SPDX-License-Identifier: Apache-2.0
         *
         * The machines of Sources/PageWire as they are: written by CommitModelTests, which fails when they differ. Not to be edited.
         */


        """

    /// Names of all states that can be reached, in the order in which a search by breadth meets them.
    var states: [String] { ways.map(\.state) }

    private var ways: [(state: String, way: [Int])] {
        var found = [(state: walk([]).state, way: [Int]())]
        var next = 0
        while next < found.count {
            for event in events.indices {
                let way = found[next].way + [event]
                let state = walk(way).state
                if !found.contains(where: { $0.state == state }) { found.append((state, way)) }
            }
            next += 1
        }
        return found
    }

    /// What the machines answer.
    static func enumerations(_ machines: MachineText...) -> String {
        let words = machines.map { $0.promela() }.joined().split { !($0.isLetter || $0 == "_") }
        let names = Set(words.filter { $0.hasPrefix("action_") || $0.hasPrefix("resolution_") }).sorted()
        return ["action", "resolution"].map { kind in
            "mtype:\(kind)s = { " + names.filter { $0.hasPrefix(kind) }.joined(separator: ", ") + " };\n"
        }.joined() + "\n"
    }

    func promela() -> String {
        let ways = ways
        var text = "mtype:\(name)State = { " + ways.map { "\(name)_\($0.state)" }.joined(separator: ", ") + " };\n"
        for (index, event) in events.enumerated() {
            text += "\ninline \(name)_\(event)(state, action, resolution) { d_step {\n    if\n"
            for (state, way) in ways {
                let (after, answer) = walk(way + [index])
                let change = after == state ? "" : "state = \(name)_\(after); "
                text += "    :: state == \(name)_\(state) -> \(change)\(Self.assignments(of: answer))\n"
            }
            text += "    fi\n} }\n"
        }
        return text
    }

    /// `violation(Module.Resolution.thaw)` as the action violation with the resolution thaw; `thaw` alone as the action resolve.
    private static func assignments(of answer: String) -> String {
        if answer.hasPrefix("resolve ") {
            return "action = action_resolve; resolution = resolution_\(answer.dropFirst("resolve ".count))"
        }
        guard let open = answer.firstIndex(of: "(") else {
            return "action = action_\(answer); resolution = resolution_nothing"
        }
        let action = answer[..<open]
        let inside = answer[answer.index(after: open)...].prefix { $0 != ")" && $0 != "(" }
        guard action == "violation" || action == "withhold" else {
            return "action = action_\(action); resolution = resolution_nothing"
        }
        return "action = action_\(action); resolution = resolution_\(inside.split(separator: ".").last ?? "")"
    }

    private static let tally = PageTally(pages: 7, high: 1, low: 2)
    private static let other = PageTally(pages: 7, high: 1, low: 3)

    static let source = MachineText(
        name: "source",
        events: [
            "descriptionRequested", "builtArrived", "grantRecorded", "runningArrived", "equalCompleteArrived",
            "otherCompleteArrived", "connectionLost", "abortArrived", "violated", "failed", "stopRequested",
        ]
    ) { way in
        var machine = SourceCommit()
        var answer = ""
        for event in way {
            answer =
                switch event {
                case 0: "\(machine.descriptionRequested())"
                case 1: "\(machine.builtArrived())"
                case 2: "\(machine.grantRecorded())"
                case 3: "\(machine.runningArrived())"
                case 4: "\(machine.completeArrived(tally, served: tally, existing: 7))"
                case 5: "\(machine.completeArrived(other, served: tally, existing: 7))"
                case 6: "resolve \(machine.connectionLost())"
                case 7: "resolve \(machine.abortArrived())"
                case 8: "resolve \(machine.violated())"
                case 9: "resolve \(machine.failed())"
                default: "resolve \(machine.stopRequested())"
                }
        }
        return ("\(machine.state)", answer)
    }

    static let destination = MachineText(
        name: "destination",
        events: [
            "built", "grantArrived", "released", "becameResident", "acknowledgementArrived",
            "connectionLost", "resumed", "gaveUpReconnecting", "abortArrived", "violated", "failed", "stopRequested",
        ]
    ) { way in
        var machine = DestinationCommit()
        var answer = ""
        for event in way {
            answer =
                switch event {
                case 0: "\(machine.built())"
                case 1: "\(machine.grantArrived())"
                case 2: "\(machine.released())"
                case 3: "\(machine.becameResident(tally))"
                case 4: "\(machine.acknowledgementArrived())"
                case 5: "resolve \(machine.connectionLost())"
                case 6: "\(machine.resumed())"
                case 7: "resolve \(machine.gaveUpReconnecting())"
                case 8: "resolve \(machine.abortArrived())"
                case 9: "resolve \(machine.violated())"
                case 10: "resolve \(machine.failed())"
                default: "resolve \(machine.stopRequested())"
                }
        }
        return ("\(machine.state)", answer)
    }
}
