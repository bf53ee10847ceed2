// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

/// Victims are right when nobody moves them, and see a wrong state when one is planted.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: Machine.isRoot, "needs root: victims change their user"))
struct VictimTests {
    /// Names of all parts that can plant a wrong state of their own.
    private static let spoilable: [String] = {
        guard let text = try? output(of: "parts") else { return [] }
        return text.filter { $0.hasSuffix(" spoil") }.map { String($0.dropLast(6)) }
    }()

    private static func output(of mode: String) throws -> [String] {
        try withProcess(BuiltProduct.victim, [mode]) { try $0.output?.rest() ?? [] }
    }

    @Test func undisturbedVictimIsRight() throws {
        let folder = try Scratch("undisturbed")
        try withVictim("everything", [folder.path]) { victim in
            try writeFile(folder.file("round.1"), "")
            try victim.waitForLine("round 1 ok")
            try writeFile(folder.file("go"), "")
            try victim.waitForLine("ok everything")
            #expect(try victim.waitForExit() == .exited(0))
        }
    }

    @Test func thereAreParts() {
        #expect(Self.spoilable.count > 30)
    }

    @Test(arguments: spoilable)
    func plantedWrongStateIsSeen(part: String) throws {
        let folder = try Scratch("spoil-\(part)")
        try withVictim("carried", [folder.path, "spoil", part]) { victim in
            try writeFile(folder.file("go"), "")
            let last = try victim.output?.rest().last ?? ""
            #expect(last.hasPrefix("wrong carried: "), "\(last)")
            #expect(try victim.waitForExit() == .exited(1))
        }
    }

    private static let kinds = (try? output(of: "kinds")) ?? []

    @Test(arguments: kinds)
    func undisturbedRefusedVictimIsRight(kind: String) throws {
        let folder = try Scratch("kind-\(kind)")
        try withProcess(BuiltProduct.victim, ["refused", folder.path, kind]) { victim in
            var last = ""
            while let line = try victim.output?.next() {
                last = line
                if line == "ready" { try writeFile(folder.file("go"), "") }
            }
            #expect(last == "ok \(kind)" || last.hasPrefix("skip "), "\(last)")
        }
    }
}
