// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// `Tests/Soak/run`, for as long as a test may take.
@Suite(
    .serialized,
    .timeLimit(.minutes(5 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct SoakTests {
    @Test(.enabled(if: fileExists("/usr/sbin/ip"), "needs iproute2: run deploy/bootstrap"))
    func aProcessIsMovedBackAndForth() throws {
        let products = BuiltProduct.thaw.split(separator: "/").dropLast().joined(separator: "/")
        let seed = UInt16.random(in: 0..<32768)
        try withProcess(
            "\(BuiltProduct.package)/Tests/Soak/run",
            ["4", "\(seed)"],
            options: .init(environment: ["THAW_BIN_PATH=/\(products)"])
        ) { soak in
            let ending = try soak.waitForExit(within: .seconds(240))
            #expect(ending == .exited(0), "seed \(seed): \(soak.report())")
            #expect(try soak.readLine().contains("every byte is right"))
        }
    }
}
