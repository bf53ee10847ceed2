// SPDX-License-Identifier: Apache-2.0
internal import PageWire

/// A frame as it comes on one of the connections from one of the sides; what is accepted has one encoding only.
func checkWire(_ choice: UInt8, _ bytes: [UInt8]) {
    let kinds = ConnectionKind.allCases
    let connection = kinds[Int(choice >> 1) % kinds.count]
    let sender: Side = choice & 1 == 0 ? .source : .destination
    guard let header = try? FrameHeader(decoding: bytes.span, on: connection, from: sender) else { return }
    precondition(header.kind.payloadBounds.contains(header.payloadLength), "a length outside of its bounds")
    guard bytes.count == FrameHeader.byteCount + header.payloadLength else { return }
    if header.kind.isPageFrame {
        checkPages(header, bytes)
    } else if let message = try? Message(decoding: bytes, on: connection, from: sender) {
        precondition(message.encoded() == bytes, "a second encoding of \(message.kind)")
    }
}

private func checkPages(_ header: FrameHeader, _ bytes: [UInt8]) {
    guard let frame = try? PageFrame(header: header, decoding: bytes.span, at: FrameHeader.byteCount) else { return }
    precondition((1...PageProtocol.maximumPages).contains(frame.count), "no run of pages")
    precondition(bytes.count == PageFrame.byteCount + frame.contentByteCount, "contents of another length")
    var again = [UInt8](repeating: 0, count: PageFrame.byteCount)
    var span = again.mutableSpan
    frame.encode(into: &span)
    precondition(again[...] == bytes[..<PageFrame.byteCount], "a second encoding of \(frame.kind)")
}
