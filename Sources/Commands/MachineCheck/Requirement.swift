// SPDX-License-Identifier: Apache-2.0
internal import Reporting

/// One thing that Thaw wants of a machine, and how this machine stands to it.
struct Requirement: Hashable, Sendable {
    /// How the machine stands to it.
    enum State: String, Sendable {
        /// It is there.
        case yes
        /// The machine does not have it.
        case no
        /// The machine has it, but this user may not use it.
        case denied
    }

    /// Who cannot work without it.
    enum Need: String, Sendable, CaseIterable {
        case both = "both sides"
        case pageServer = "page-server"
        case restore
        /// Only certain processes, or certain options.
        case optional
    }

    /// A short name, the same in text and JSON.
    let name: String
    let need: Need
    let state: State
    /// What was found.
    let detail: String
    /// What to do about it; nil when nothing is missing.
    let remedy: String?

    init(_ name: String, _ need: Need, _ state: State, _ detail: String, remedy: String? = nil) {
        self.name = name
        self.need = need
        self.state = state
        self.detail = detail
        self.remedy = state == .yes ? nil : remedy
    }

    var isMet: Bool { state == .yes || need == .optional }
}

/// Everything that `thaw check` says about a machine.
struct MachineReport: Sendable {
    let machine: String
    let requirements: [Requirement]

    /// Missing for the given command.
    func unmet(for need: Requirement.Need) -> [Requirement] {
        requirements.filter { !$0.isMet && ($0.need == need || $0.need == .both) }
    }

    /// 0 when both sides can work, 69 when the machine lacks something, 77 when only a permission is missing.
    var exitCode: ExitCode {
        let unmet = requirements.filter { !$0.isMet }
        if unmet.isEmpty { return .done }
        return unmet.contains { $0.state == .no } ? .unavailable : .permission
    }
}
