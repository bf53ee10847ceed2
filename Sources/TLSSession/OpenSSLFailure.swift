// SPDX-License-Identifier: Apache-2.0
internal import COpenSSL

/// The error queue of OpenSSL of the calling thread, taken out of it.
struct OpenSSLFailure {
    /// Error numbers, oldest first.
    let numbers: [UInt]

    /// Empties the queue.
    static func drain() -> OpenSSLFailure {
        var numbers: [UInt] = []
        while true {
            let number = ERR_get_error()
            guard number != 0 else { return OpenSSLFailure(numbers: numbers) }
            numbers.append(number)
        }
    }

    /// Whether the queue tells this reason of libssl.
    func tells(_ reason: Int32) -> Bool {
        numbers.contains { ERR_GET_LIB($0) == ERR_LIB_SSL && ERR_GET_REASON($0) == reason }
    }

    /// The number of the alert that the other side has sent, if that is what happened.
    var alert: Int32? {
        for number in numbers where ERR_GET_LIB(number) == ERR_LIB_SSL {
            let reason = ERR_GET_REASON(number)
            if (SSL_AD_REASON_OFFSET...SSL_AD_REASON_OFFSET + 255).contains(reason) {
                return reason - SSL_AD_REASON_OFFSET
            }
        }
        return nil
    }

    /// Words for each number.
    var texts: [String] {
        numbers.map { number in
            // SAFETY: a constant string of the library, or NULL for a number that it does not know.
            guard let text = unsafe ERR_reason_error_string(number) else { return "error \(String(number, radix: 16))" }
            return unsafe String(cString: text)
        }
    }
}
