// SPDX-License-Identifier: Apache-2.0
public import Logging

extension Logger {
    /// Logs a change of state for an operator.
    public func report(_ event: StatusEvent) {
        switch event {
        case .listening(let port): notice("Waiting for a destination", metadata: ["port": "\(port)"])
        case .connected(let peer): notice("Connected", metadata: ["peer.name": "\(peer)"])
        case .preCopy(let round, let pages):
            info("A round of pre-copy has ended", metadata: ["round": "\(round)", "pages": "\(pages)"])
        case .frozen: notice("The process is frozen")
        case .granted: notice("The destination may let its copy run; this process stays frozen")
        case .running(let pid): notice("The process runs", metadata: ["pid": "\(pid)"])
        case .lost: warning("The other side is gone")
        case .tookOver(let pid):
            warning("The restorer of the process had died; this one has taken over", metadata: ["process.id": "\(pid)"])
        case .resumed: notice("The other side is back")
        case .resident: notice("Every page is there")
        case .complete(let pages, let digest):
            notice("Complete", metadata: ["pages": "\(pages)", "digest": "\(digest)"])
        case .written(let pages): debug("The process has written pages", metadata: ["pages": "\(pages)"])
        case .exited(let status): info("The process has ended", metadata: ["status": "\(status)"])
        // Said by the command itself when it ends.
        case .failed(let code, let message): debug("Failed", metadata: ["code": "\(code)", "reason": "\(message)"])
        }
    }
}
