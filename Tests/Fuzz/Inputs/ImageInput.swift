// SPDX-License-Identifier: Apache-2.0
internal import ProcessImage

/// What a source says that a process is: it comes back unchanged when it is accepted.
func checkImage(_ choice: UInt8, _ bytes: [UInt8]) {
    if choice & 1 == 0 {
        checkComesBack(ProcessDescription.self, bytes)
    } else {
        checkComesBack(EagerPages.self, bytes)
    }
}

private func checkComesBack<Value: ArchivedValue & Equatable>(_: Value.Type, _ bytes: [UInt8]) {
    guard let value = try? ArchiveDecoder.decode(Value.self, from: bytes) else { return }
    guard let encoded = try? ArchiveEncoder.encode(value),
        let again = try? ArchiveDecoder.decode(Value.self, from: encoded)
    else { preconditionFailure("what was decoded cannot be encoded") }
    precondition(again == value, "another value comes back")
}
