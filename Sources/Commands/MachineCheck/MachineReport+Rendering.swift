// SPDX-License-Identifier: Apache-2.0
internal import Reporting

extension MachineReport {
    /// The whole report with its last line feed.
    func rendered(as format: OutputFormat) -> String {
        switch format {
        case .text: text
        case .json: json.line + "\n"
        }
    }

    private var text: String {
        let width = requirements.map(\.name.count).max() ?? 0
        var text = machine + "\n"
        for need in Requirement.Need.allCases {
            let rows = requirements.filter { $0.need == need }
            guard !rows.isEmpty else { continue }
            text += "\n\(Self.title(need))\n"
            for row in rows {
                let name = row.name + String(repeating: " ", count: width - row.name.count)
                let state = row.state.rawValue + String(repeating: " ", count: 6 - row.state.rawValue.count)
                text += "  \(state)  \(name)  \(row.detail)\n"
                if let remedy = row.remedy { text += "          \(remedy)\n" }
            }
        }
        return text + "\n" + verdict(.pageServer) + verdict(.restore)
    }

    private static func title(_ need: Requirement.Need) -> String {
        switch need {
        case .both: "Needed on both sides"
        case .pageServer: "Needed by page-server"
        case .restore: "Needed by restore"
        case .optional: "Needed by some processes or options"
        }
    }

    private func verdict(_ need: Requirement.Need) -> String {
        let missing = unmet(for: need).map(\.name)
        let words = missing.isEmpty ? "ready" : "not ready: " + missing.joined(separator: ", ")
        return "\(need.rawValue): \(words)\n"
    }

    private var json: JSON {
        .object([
            .init("machine", .text(machine)),
            .init("ready", .flag(exitCode == .done)),
            .init("pageServer", .flag(unmet(for: .pageServer).isEmpty)),
            .init("restore", .flag(unmet(for: .restore).isEmpty)),
            .init("requirements", .list(requirements.map(\.json))),
        ])
    }
}

extension Requirement {
    fileprivate var json: JSON {
        .object([
            .init("name", .text(name)),
            .init("neededBy", .text(need.rawValue)),
            .init("state", .text(state.rawValue)),
            .init("detail", .text(detail)),
            .init("remedy", remedy.map(JSON.text) ?? .null),
        ])
    }
}
