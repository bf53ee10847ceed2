// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Logging
internal import Reporting

// What is written down for an operator who finds the process stopped and no page server.
extension SourceConversation {
    /// Writes the state down; it is on the disk when this returns.
    func note(_ state: SessionRecord.State) throws(SessionFailure) {
        guard let record else { return }
        let (name, peer) = session.table.withLock { ($0.publicName ?? "", $0.owner?.name ?? "?") }
        try record.write(state, session: name, peer: peer)
    }

    /// The copy is the only one from now on; nothing is lost when that cannot be written down.
    func noteCompletion() {
        do throws(SessionFailure) {
            try note(.complete)
        } catch {
            logger.warning("The completion could not be recorded", metadata: ["reason": "\(error.message)"])
        }
    }
}
