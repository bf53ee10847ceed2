// SPDX-License-Identifier: Apache-2.0
import PageWire
import Paging

/// One frame of the protocol with its bytes, who sends it and where.
struct Sample: CustomStringConvertible, Sendable {
    var message: Message
    var connection = ConnectionKind.control
    var sender: Side
    var golden: [UInt8]

    var description: String {
        "\(message.kind)"
    }

    static let session = SessionIdentifier(bytes: Array(1...32))

    /// Every message at least once.
    static let all: [Sample] = greetings + control + pageMap + preCopy + reconnection

    private static let greetings: [Sample] = [
        Sample(
            message: .hello(connection: .control, session: .none),
            sender: .destination,
            golden: bytes(
                """
                28 00 00 00             | payload length 40
                01                      | hello
                00 00 00                | zero
                00 00 00 00 00 00 00 00 | no request
                54 48 41 57             | THAW
                06 00                   | version 6
                01                      | control
                00                      | zero
                0000000000000000 0000000000000000 0000000000000000 0000000000000000 | no session yet
                """
            )
        ),
        Sample(
            message: .hello(connection: .bulk, session: session ?? .none),
            connection: .bulk,
            sender: .destination,
            golden: bytes(
                """
                28 00 00 00  01 00 00 00  00 00 00 00 00 00 00 00 | 40 bytes of hello
                54 48 41 57  06 00  03  00                        | THAW, version 6, bulk
                0102030405060708 090a0b0c0d0e0f10 1112131415161718 191a1b1c1d1e1f20 | session
                """
            )
        ),
        Sample(
            message: .welcome(session: session ?? .none),
            connection: .fault,
            sender: .source,
            golden: bytes(
                """
                28 00 00 00  02 00 00 00  00 00 00 00 00 00 00 00 | 40 bytes of welcome
                54 48 41 57  06 00  00 00                         | THAW, version 6, zero
                0102030405060708 090a0b0c0d0e0f10 1112131415161718 191a1b1c1d1e1f20 | session
                """
            )
        ),
        Sample(
            message: .refused(code: 78, text: "Nö"),
            sender: .source,
            golden: bytes(
                """
                05 00 00 00  03 00 00 00  00 00 00 00 00 00 00 00 | 5 bytes of refused
                4e 00                                             | code 78
                4e c3 b6                                          | "Nö"
                """
            )
        ),
    ]

    private static let control: [Sample] = [
        Sample(
            message: .abort(code: 75, text: ""),
            sender: .destination,
            golden: bytes(
                """
                02 00 00 00  04 00 00 00  00 00 00 00 00 00 00 00 | 2 bytes of abort
                4b 00                                             | code 75, no text
                """
            )
        ),
        Sample(
            message: .ping,
            sender: .source,
            golden: bytes("00 00 00 00  05 00 00 00  00 00 00 00 00 00 00 00 | ping")
        ),
        Sample(
            message: .pong,
            sender: .destination,
            golden: bytes("00 00 00 00  06 00 00 00  00 00 00 00 00 00 00 00 | pong")
        ),
        Sample(
            message: .describe(.eager),
            sender: .destination,
            golden: bytes(
                """
                04 00 00 00  10 00 00 00  00 00 00 00 00 00 00 00 | 4 bytes of describe
                01 00 00 00                                       | eager
                """
            )
        ),
        Sample(
            message: .description(total: 0x1_0000, offset: 0x200, bytes: [0xaa, 0xbb, 0xcc]),
            sender: .source,
            golden: bytes(
                """
                13 00 00 00  11 00 00 00  00 00 00 00 00 00 00 00 | 19 bytes of description
                00 00 01 00 00 00 00 00                           | 65536 in all
                00 02 00 00 00 00 00 00                           | from 512 on
                aa bb cc                                          | these
                """
            )
        ),
        Sample(
            message: .eagerPages([1, 2]),
            sender: .source,
            golden: bytes(
                """
                02 00 00 00  12 00 00 00  00 00 00 00 00 00 00 00 | 2 bytes of eagerPages
                01 02                                             | an encoded value
                """
            )
        ),
        Sample(
            message: .handedOver(PageTally(pages: 3, high: 0x1122_3344_5566_7788, low: 0x99aa_bbcc_ddee_ff00)),
            sender: .source,
            golden: bytes(
                """
                18 00 00 00  13 00 00 00  00 00 00 00 00 00 00 00 | 24 bytes of handedOver
                03 00 00 00 00 00 00 00                           | 3 pages
                00 ff ee dd cc bb aa 99 88 77 66 55 44 33 22 11   | digest
                """
            )
        ),
        Sample(
            message: .built,
            sender: .destination,
            golden: bytes("00 00 00 00  14 00 00 00  00 00 00 00 00 00 00 00 | built")
        ),
        Sample(
            message: .grant(guards: [PageRun(address: VirtualAddress(0x7f00_0000_1000), count: 2)]),
            sender: .source,
            golden: bytes(
                """
                18 00 00 00  15 00 00 00  00 00 00 00 00 00 00 00 | 24 bytes of grant
                01 00 00 00  00 00 00 00                          | 1 guard range, no flags
                00 10 00 00 00 7f 00 00  02 00 00 00 00 00 00 00  | 2 pages at 0x7f0000001000
                """
            )
        ),
        Sample(
            message: .running,
            sender: .destination,
            golden: bytes("00 00 00 00  16 00 00 00  00 00 00 00 00 00 00 00 | running")
        ),
        Sample(
            message: .complete(PageTally(pages: 0x0102, high: 1, low: 2)),
            sender: .destination,
            golden: bytes(
                """
                18 00 00 00  17 00 00 00  00 00 00 00 00 00 00 00 | 24 bytes of complete
                02 01 00 00 00 00 00 00                           | 258 pages
                02 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00   | digest
                """
            )
        ),
        Sample(
            message: .acknowledged,
            sender: .source,
            golden: bytes("00 00 00 00  18 00 00 00  00 00 00 00 00 00 00 00 | acknowledged")
        ),
    ]

    private static let pageMap: [Sample] = [
        Sample(
            message: .pageMap(runs: [], isLast: true),
            connection: .bulk,
            sender: .source,
            golden: bytes(
                """
                08 00 00 00  30 00 00 00  00 00 00 00 00 00 00 00 | 8 bytes of pageMap
                00 00 00 00  01 00 00 00                          | no runs, the last piece
                """
            )
        ),
        Sample(
            message: .pageMap(
                runs: [
                    PageRun(address: VirtualAddress(0x1000), count: 1),
                    PageRun(address: VirtualAddress(0xffff_f000), count: 0x1_0000_0000),
                ],
                isLast: false
            ),
            connection: .bulk,
            sender: .source,
            golden: bytes(
                """
                28 00 00 00  30 00 00 00  00 00 00 00 00 00 00 00 | 40 bytes of pageMap
                02 00 00 00  00 00 00 00                          | 2 runs, more to come
                00 10 00 00 00 00 00 00  01 00 00 00 00 00 00 00  | 1 page at 0x1000
                00 f0 ff ff 00 00 00 00  00 00 00 00 01 00 00 00  | 2^32 pages at 0xfffff000
                """
            )
        ),
        Sample(
            message: .guardMap(runs: [PageRun(address: VirtualAddress(0x7f00_0000_2000), count: 3)]),
            connection: .bulk,
            sender: .source,
            golden: bytes(
                """
                18 00 00 00  37 00 00 00  00 00 00 00 00 00 00 00 | 24 bytes of guardMap
                01 00 00 00  00 00 00 00                          | 1 guard range, no flags
                00 20 00 00 00 7f 00 00  03 00 00 00 00 00 00 00  | 3 pages at 0x7f0000002000
                """
            )
        ),
        Sample(
            message: .drained(pages: 5),
            connection: .bulk,
            sender: .source,
            golden: bytes(
                """
                08 00 00 00  33 00 00 00  00 00 00 00 00 00 00 00 | 8 bytes of drained
                05 00 00 00 00 00 00 00                           | 5 pages
                """
            )
        ),
    ]

    private static let preCopy: [Sample] = [
        Sample(
            message: .preCopy(PreCopyRequest(rounds: 7, maximumPause: 50_000_000, maximumPages: 0x1_0000_0000)),
            sender: .destination,
            golden: bytes(
                """
                18 00 00 00  19 00 00 00  00 00 00 00 00 00 00 00 | 24 bytes of preCopy
                07 00 00 00  00 00 00 00                          | 7 rounds
                80 f0 fa 02 00 00 00 00                           | 50 ms
                00 00 00 00 01 00 00 00                           | 2^32 pages
                """
            )
        ),
        Sample(
            message: .preCopyRound(PreCopyRound(number: 2, pages: 3, duration: 4)),
            connection: .bulk,
            sender: .source,
            golden: bytes(
                """
                18 00 00 00  34 00 00 00  00 00 00 00 00 00 00 00 | 24 bytes of preCopyRound
                02 00 00 00  00 00 00 00                          | the second
                03 00 00 00 00 00 00 00  04 00 00 00 00 00 00 00  | 3 pages, 4 ns
                """
            )
        ),
        Sample(
            message: .preCopied(rounds: 5, tracker: .writeProtectAsync),
            connection: .bulk,
            sender: .source,
            golden: bytes(
                """
                08 00 00 00  35 00 00 00  00 00 00 00 00 00 00 00 | 8 bytes of preCopied
                05 00 00 00  01 00 00 00                          | 5 rounds, writeProtectAsync
                """
            )
        ),
        Sample(
            message: .preCopyMap(runs: [PageRun(address: VirtualAddress(0x1000), count: 1)], isLast: true),
            connection: .bulk,
            sender: .source,
            golden: bytes(
                """
                18 00 00 00  36 00 00 00  00 00 00 00 00 00 00 00 | 24 bytes of preCopyMap
                01 00 00 00  01 00 00 00                          | one run, the last piece
                00 10 00 00 00 00 00 00  01 00 00 00 00 00 00 00  | 1 page at 0x1000
                """
            )
        ),
    ]

    private static let reconnection: [Sample] = [
        Sample(
            message: .hello(connection: .control, session: session ?? .none),
            sender: .destination,
            golden: bytes(
                """
                28 00 00 00  01 00 00 00  00 00 00 00 00 00 00 00 | 40 bytes of hello
                54 48 41 57  06 00  01  00                        | THAW, version 6, control
                0102030405060708 090a0b0c0d0e0f10 1112131415161718 191a1b1c1d1e1f20 | the session to take up again
                """
            )
        ),
        Sample(
            message: .resume(
                runs: [PageRun(address: VirtualAddress(0x1000), count: 2)],
                options: [.last, .hasMap, .hasPreCopyMap]
            ),
            sender: .destination,
            golden: bytes(
                """
                18 00 00 00  1a 00 00 00  00 00 00 00 00 00 00 00 | 24 bytes of resume
                01 00 00 00  07 00 00 00                          | one run, missing, the last piece
                00 10 00 00 00 00 00 00  02 00 00 00 00 00 00 00  | 2 pages at 0x1000
                """
            )
        ),
        Sample(
            message: .resumed,
            sender: .source,
            golden: bytes("00 00 00 00  1b 00 00 00  00 00 00 00 00 00 00 00 | resumed")
        ),
    ]
}
