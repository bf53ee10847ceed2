// swift-tools-version: 6.3
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

/// Settings of every hand-written target.
///
/// `SwiftSetting` cannot be filtered, so lists are built up.
let common: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InferIsolatedConformances"),
    .enableUpcomingFeature("ImmutableWeakCaptures"),
]
let strict = common + [.strictMemorySafety()]
let cStrict: [CSetting] = [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]

let package = Package(
    name: "thaw",
    products: [
        .executable(name: "thaw", targets: ["thaw"])
    ],
    traits: [
        .trait(
            name: "FaultInjection",
            description: "Lets tests have the program fail at chosen places (Tests/Faults/run); never for use."
        )
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.16.2"),
    ],
    targets: [
        // Layer 0
        .target(name: "CLinux", cSettings: cStrict),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        // Layer 1
        .target(name: "Paging", swiftSettings: strict),
        // Layer 2
        .target(name: "PageWire", dependencies: ["Paging"], swiftSettings: strict),
        .target(name: "LazyPages", dependencies: ["Paging"], swiftSettings: strict),
        // Layer 3
        .target(name: "LinuxSystem", dependencies: ["CLinux", "Paging"], swiftSettings: strict),
        .target(name: "TLSSession", dependencies: ["COpenSSL", "LinuxSystem"], swiftSettings: strict),
        // Layer 4
        .target(name: "Userfaultfd", dependencies: ["CLinux", "LinuxSystem", "Paging"], swiftSettings: strict),
        .target(name: "ProcessTrace", dependencies: ["CLinux", "LinuxSystem", "Paging"], swiftSettings: strict),
        .target(name: "ProcessImage", dependencies: ["Paging"], swiftSettings: strict),
        .target(
            name: "Reporting",
            dependencies: ["LinuxSystem", .product(name: "Logging", package: "swift-log")],
            swiftSettings: strict
        ),
        .target(
            name: "FrameTransport",
            dependencies: ["LinuxSystem", "PageWire", "Paging", "ProcessImage", "Reporting", "TLSSession"],
            swiftSettings: strict
        ),
        // Layer 5
        .target(
            name: "Checkpoint",
            dependencies: ["CLinux", "LinuxSystem", "Paging", "ProcessImage", "ProcessTrace"],
            swiftSettings: strict
        ),
        .target(
            name: "Restore",
            dependencies: ["CLinux", "LinuxSystem", "Paging", "ProcessImage", "ProcessTrace", "Userfaultfd"],
            swiftSettings: strict
        ),
        .target(
            name: "DirtyTracking",
            dependencies: ["CLinux", "LinuxSystem", "Paging", "ProcessTrace", "Userfaultfd"],
            swiftSettings: strict
        ),
        // Layer 6
        .target(
            name: "PageServer",
            dependencies: [
                "Checkpoint", "DirtyTracking", "FrameTransport", "LinuxSystem", "PageWire", "Paging", "ProcessImage",
                "ProcessTrace", "Reporting", "TLSSession",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict
        ),
        .target(
            name: "LazyRestore",
            dependencies: [
                "CLinux", "DirtyTracking", "FrameTransport", "LazyPages", "LinuxSystem", "PageWire", "Paging",
                "ProcessImage", "ProcessTrace", "Reporting", "Restore", "TLSSession", "Userfaultfd",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict
        ),
        // Layer 7
        .target(
            name: "Commands",
            dependencies: [
                "CLinux", "COpenSSL", "Checkpoint", "DirtyTracking", "FrameTransport", "LazyRestore", "LinuxSystem",
                "PageServer", "Paging", "ProcessImage", "ProcessTrace", "Reporting", "TLSSession", "Userfaultfd",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict
        ),
        // Layer 8
        .executableTarget(name: "thaw", dependencies: ["Commands"], swiftSettings: strict),

        // Tests. Programs that are moved are plain C, as users' programs are.
        .executableTarget(
            name: "Victim",
            path: "Tests/Support/Victim",
            cSettings: cStrict,
            linkerSettings: [.linkedLibrary("pthread")]
        ),
        .executableTarget(name: "SwiftVictim", path: "Tests/Support/SwiftVictim", swiftSettings: common),
        .target(name: "CTestSupport", path: "Tests/Support/CTestSupport", cSettings: cStrict),
        // Depends on nothing of the product, so that it can contradict it.
        .target(
            name: "TestSupport",
            dependencies: ["CTestSupport"],
            path: "Tests/Support/TestSupport",
            swiftSettings: strict
        ),
        .testTarget(
            name: "SupportTests",
            dependencies: [
                "BenchmarkPictures", "BenchmarkVictim", "CallCounter", "Floor", "Link", "TestSupport", "TrackingFloor",
                "Victim",
            ],
            swiftSettings: strict
        ),
        .target(
            name: "FuzzInputs",
            dependencies: ["PageServer", "PageWire", "Paging", "ProcessImage", "ProcessTrace", "TLSSession"],
            path: "Tests/Fuzz/Inputs",
            swiftSettings: strict
        ),
        .testTarget(
            name: "FuzzTests",
            dependencies: ["FuzzInputs", "TestSupport"],
            path: "Tests/Fuzz/Tests",
            swiftSettings: strict
        ),
        .testTarget(name: "PagingTests", dependencies: ["Paging", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "PageWireTests",
            dependencies: ["LinuxSystem", "PageWire", "Paging", "TestSupport"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "LazyPagesTests",
            dependencies: ["LazyPages", "Paging", "TestSupport"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "LinuxSystemTests",
            dependencies: ["LinuxSystem", "CLinux", "Paging", "TestSupport"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "TLSSessionTests",
            dependencies: ["COpenSSL", "LinuxSystem", "TLSSession", "TestSupport"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "UserfaultfdTests",
            dependencies: [
                "LazyPages", "LazyRestore", "Userfaultfd", "ProcessTrace", "LinuxSystem", "CLinux", "Paging",
                "TestSupport", "Victim",
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "ProcessTraceTests",
            dependencies: ["ProcessTrace", "LinuxSystem", "CLinux", "Paging", "TestSupport", "Victim"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "ProcessImageTests",
            dependencies: ["ProcessImage", "Paging", "TestSupport"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "CheckpointTests",
            dependencies: [
                "Checkpoint", "DirtyTracking", "ProcessImage", "ProcessTrace", "LinuxSystem", "CLinux", "Paging",
                "TestSupport", "Victim",
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "DirtyTrackingTests",
            dependencies: [
                "DirtyTracking", "ProcessTrace", "Userfaultfd", "LinuxSystem", "CLinux", "Paging", "TestSupport",
                "Victim",
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "RestoreTests",
            dependencies: [
                "Restore", "Checkpoint", "ProcessImage", "ProcessTrace", "Userfaultfd", "LinuxSystem", "CLinux",
                "Paging", "TestSupport", "Victim",
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "SessionTests",
            dependencies: [
                "PageServer", "LazyRestore", "FrameTransport", "PageWire", "Paging", "ProcessImage", "Reporting",
                "TLSSession", "LinuxSystem", "CLinux", "TestSupport", "Victim", "thaw",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "CommandsTests",
            dependencies: [
                "Commands", "DirtyTracking", "LazyRestore", "LinuxSystem", "Paging", "Reporting", "TestSupport", "thaw",
                .product(name: "Logging", package: "swift-log"),
            ],
            exclude: ["Golden"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "IntegrationTests",
            dependencies: ["BenchmarkVictim", "CallCounter", "TestSupport", "Victim", "SwiftVictim", "thaw"],
            swiftSettings: strict
        ),

        // Faults at every change of state: Tests/Faults/run.
        .executableTarget(
            name: "Faults",
            dependencies: ["LinuxSystem", "TestSupport"],
            path: "Tests/Faults/Driver",
            swiftSettings: strict
        ),

        // Benchmarks: Tests/Benchmarks/run.
        .executableTarget(
            name: "Floor",
            dependencies: ["COpenSSL"],
            path: "Tests/Benchmarks/Floor",
            cSettings: cStrict,
            linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto"), .linkedLibrary("pthread")]
        ),
        .executableTarget(
            name: "BenchmarkVictim",
            path: "Tests/Benchmarks/Victim",
            cSettings: cStrict,
            linkerSettings: [.linkedLibrary("pthread")]
        ),
        .target(name: "BenchmarkPictures", path: "Tests/Benchmarks/Pictures", swiftSettings: strict),
        .executableTarget(name: "CallCounter", path: "Tests/Benchmarks/CallCounter", cSettings: cStrict),
        .executableTarget(name: "Link", path: "Tests/Benchmarks/Link", cSettings: cStrict),
        .executableTarget(name: "TrackingFloor", path: "Tests/Benchmarks/TrackingFloor", cSettings: cStrict),
        .executableTarget(
            name: "Benchmarks",
            dependencies: [
                "BenchmarkPictures", "DirtyTracking", "LinuxSystem", "Paging", "Reporting", "TestSupport",
            ],
            path: "Tests/Benchmarks/Driver",
            swiftSettings: strict
        ),
    ]
)
