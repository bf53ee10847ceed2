// SPDX-License-Identifier: Apache-2.0
internal import PageServer

/// What somebody has left in the folder of session records: what is accepted says the same when it is written again.
func checkRecord(_ bytes: [UInt8]) {
    guard let record = SessionRecord(String(decoding: bytes, as: UTF8.self)) else { return }
    guard let again = SessionRecord(record.text) else { preconditionFailure("what was read cannot be written") }
    precondition(again.text == record.text, "another record comes back")
    precondition(again.process == record.process && again.state == record.state, "another process is settled")
    precondition(record.process.pid > 0 && record.server.pid > 0, "a group of processes, or all of them")
}
