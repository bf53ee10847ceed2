// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization
import TestSupport
import Testing

/// Programs of a real system, moved in the middle of their work, come to the result that they come to undisturbed.
@Suite(
    .serialized,
    .timeLimit(.minutes(4 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct RealProgramTests {
    /// A program that computes for some seconds and prints its result.
    struct Program: Sendable, CustomTestStringConvertible {
        let name: String
        /// Must be there; what is started unless ``command`` says otherwise.
        let path: String
        var command: String?
        let arguments: @Sendable () throws -> [String]
        var environment: [String] = []
        /// Whether two undisturbed runs print the same.
        var isRepeatable = true

        var testDescription: String { name }
    }

    /// Shuffled numbers, always the same ones.
    private static let numbers = Result {
        let path = Scratch.run.file("numbers")
        let arguments = ["-i", "1-900000", "--random-source=/dev/zero", "-o", path]
        try withProcess("/usr/bin/shuf", arguments) { process in
            guard try process.waitForExit() == .exited(0) else { throw TestFailure("shuf: \(process.report())") }
        }
        return path
    }

    private static let database = Result {
        let path = Scratch.run.file("database")
        let statements = """
            create table n(a integer, b integer);
            with recursive c(x) as (select 1 union all select x + 1 from c where x < 120000)
              insert into n select x, (x * 7919) % 100003 from c;
            create index i on n(b);
            """
        try withProcess("/usr/bin/sqlite3", [path, statements]) { process in
            guard try process.waitForExit() == .exited(0) else { throw TestFailure("sqlite3: \(process.report())") }
        }
        return path
    }

    private static let bash = Program(name: "bash", path: "/bin/bash") {
        let script = "s=7; for ((i = 0; i < 1200000; i++)); do ((s = (s * 31 + i) % 1000003)); done; echo $s"
        return ["--norc", "-c", script]
    }

    /// Collects garbage with threads of its own.
    private static let node = Program(name: "node", path: "/usr/bin/node") {
        let script = """
            let h = new Map(), s = 7;
            for (let i = 0; i < 40000000; i++) { s = (s * 31 + i) % 1000003; h.set(s % 50021, { a: s, b: [i, s] }); }
            let t = 0; for (const [k, v] of h) t += k * v.b[0] % 97;
            console.log(s, t, h.size);
            """
        return ["-e", script]
    }

    /// The directory of a class that makes garbage.
    private static let javaClass = Result {
        let path = Scratch.run.file("Collected.java")
        try writeFile(
            path,
            """
            class Collected {
                public static void main(String[] a) {
                    var h = new java.util.HashMap<Integer, int[]>();
                    long s = 7, t = 0;
                    for (int i = 0; i < 600000000; i++) {
                        s = (s * 31 + i) % 1000003;
                        h.put((int) (s % 50021), new int[] {i, (int) s});
                    }
                    for (var e : h.entrySet()) t += e.getKey() * (long) e.getValue()[0] % 97;
                    System.out.println(s + " " + t + " " + h.size());
                }
            }
            """
        )
        try withProcess("/usr/bin/javac", ["-d", Scratch.run.path, path]) { process in
            guard try process.waitForExit() == .exited(0) else { throw TestFailure("javac: \(process.report())") }
        }
        return Scratch.run.path
    }

    private static let java = Program(name: "java", path: "/usr/bin/javac", command: "/usr/bin/java") {
        ["-Xmx256m", "-cp", try javaClass.get(), "Collected"]
    }

    private static let perl = Program(
        name: "perl",
        path: "/usr/bin/perl",
        arguments: {
            [
                "-e",
                """
                my (%h, $s); for my $i (1 .. 6000000) { $h{$i % 50021} += $i * 7 % 13; $s = ($s * 31 + $i) % 1000003 }
                my $t = 0; $t += $_ * $h{$_} for keys %h; print "$s $t ", scalar(keys %h), "\\n";
                """,
            ]
        }
    )

    private static let python = Program(
        name: "python3",
        path: "/usr/bin/python3",
        arguments: {
            [
                "-c",
                """
                d = {}; s = 7
                for i in range(6000000):
                    s = (s * 31 + i) % 1000003
                    d[s % 4099] = d.get(s % 4099, 0) + 1
                print(s, sum(k * v for k, v in d.items()), len(d))
                """,
            ]
        }
    )

    private static let pythonThreads = Program(
        name: "python3 with threads",
        path: "/usr/bin/python3",
        arguments: {
            [
                "-c",
                """
                import threading, queue, time
                tasks, results = queue.Queue(), queue.Queue()
                def work():
                    while True:
                        n = tasks.get()
                        if n is None: return
                        s = n
                        for i in range(20000): s = (s * 31 + i) % 1000003
                        time.sleep(0.005)
                        results.put((n, s))
                threads = [threading.Thread(target=work) for _ in range(6)]
                for t in threads: t.start()
                for n in range(2000): tasks.put(n)
                for t in threads: tasks.put(None)
                for t in threads: t.join()
                r = [results.get() for _ in range(2000)]
                print(len(r), sum(n * s for n, s in r))
                """,
            ]
        }
    )

    static let programs: [Program] = [
        Program(
            name: "xz",
            path: "/usr/bin/xz",
            arguments: { ["-6", "-T1", "-k", "-c"] + Array(repeating: try numbers.get(), count: slowness) }
        ),
        Program(
            name: "gzip",
            path: "/bin/gzip",
            arguments: { ["-9", "-n", "-c"] + Array(repeating: try numbers.get(), count: 6 * slowness) }
        ),
        Program(
            name: "sqlite3",
            path: "/usr/bin/sqlite3",
            arguments: {
                let path = try database.get()
                let query = """
                    select count(*), sum(x.a * y.b % 1000) from n x join n y on y.b between x.b and x.b + \(120 * slowness);
                    """
                // Immutable: an open on-disk database has file locks otherwise, which are refused.
                return ["-readonly", "file:\(path)?immutable=1", query]
            }
        ),
        python,
        pythonThreads,
        perl,
        Program(
            name: "awk",
            path: "/usr/bin/awk",
            arguments: {
                let path = try numbers.get()
                let script = """
                    { s = (s * 31 + $1) % 1000003; a[$1 % 5003] += length($0) * NR % 17 }
                    END { for (i = 0; i < 5003; i++) t += a[i] * i; print s, t }
                    """
                return [script] + Array(repeating: path, count: 20)
            }
        ),
        Program(
            name: "sort",
            path: "/usr/bin/sort",
            arguments: {
                let path = try numbers.get()
                return ["--parallel=2", "-S", "1G"] + Array(repeating: path, count: 8)
            }
        ),
        bash,
        Program(
            name: "openssl speed",
            path: "/usr/bin/openssl",
            arguments: { ["speed", "-seconds", "1", "sha256"] },
            isRepeatable: false
        ),
        node, java,
        Program(name: "Swift", path: BuiltProduct.path("SwiftVictim"), arguments: { ["2500"] }),
    ]

    @Test(arguments: programs)
    func movedProgramComesToTheSameResult(program: Program) throws {
        try moveAndCompare(program, Move.Options())
    }

    /// Interpreters with garbage collectors and threads, a database, a compressor: while they run their memory is copied.
    @Test(
        arguments: programs.filter {
            ["python3 with threads", "sqlite3", "xz", "Swift", "node", "java"].contains($0.name)
        }
    )
    func programThatIsCopiedWhileItRunsComesToTheSameResult(program: Program) throws {
        var options = Move.Options()
        options.preCopies = true
        try moveAndCompare(program, options)
    }

    /// What each program prints undisturbed; once is enough.
    private static let references = Mutex<[String: [UInt8]]>([:])

    private func moveAndCompare(_ program: Program, _ options: Move.Options) throws {
        guard fileExists(program.path) else {
            // Not a part of every system; deploy/bootstrap installs all of them.
            return
        }
        let folder = try Scratch("program")
        let known = Self.references.withLock { $0[program.name] }
        let reference = known == nil ? try start(program, output: folder.file("reference")) : nil
        let moved = try start(program, output: folder.file("moved"))
        defer {
            reference?.end()
            moved.end()
        }
        // In the middle of its work: it has computed for a while and has not ended.
        try wait(for: "\(program.name) to be at work") {
            if let ending = try moved.pollForExit() { throw TestFailure("\(program.name): \(ending)") }
            return try cpuTicks(moved.pid) >= 25
        }
        let move = try Move(of: moved.pid, options)
        try move.waitUntilRunning()
        #expect(try move.restorer.waitForExit(within: .seconds(90)) == .exited(0), "\(move.restorer.report())")
        #expect(try move.server.waitForExit() == .exited(0), "\(move.server.report())")
        let expected = try known ?? result(of: program, reference, folder)
        let result = try readBytes(folder.file("moved"))
        #expect(!result.isEmpty)
        if program.isRepeatable { #expect(result == expected, "\(program.name): the results differ") }
        let words = try readText(folder.file("moved.errors"))
        if program.isRepeatable { #expect(words == "", "\(program.name) says \(words)") }
    }

    /// What an undisturbed run prints, which is kept.
    private func result(of program: Program, _ run: TestProcess?, _ folder: Scratch) throws -> [UInt8] {
        guard let run, try run.waitForExit(within: .seconds(90)) == .exited(0) else {
            throw TestFailure("\(program.name), undisturbed: \(run?.report() ?? "not run")")
        }
        let words = try readBytes(folder.file("reference"))
        Self.references.withLock { $0[program.name] = words }
        return words
    }

    private func start(_ program: Program, output: String) throws -> TestProcess {
        try TestProcess(
            program.command ?? program.path,
            try program.arguments(),
            options: .init(
                output: .file(output),
                errors: .file(output + ".errors"),
                environment: ["PERL_HASH_SEED=0", "PYTHONHASHSEED=0"] + program.environment
            )
        )
    }

    /// User and system time of a process in clock ticks (of 10 ms).
    private func cpuTicks(_ pid: Int32) throws -> Int {
        let text = try readText("/proc/\(pid)/stat")
        guard let end = text.lastIndex(of: ")") else { return 0 }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return (Int(fields[11]) ?? 0) + (Int(fields[12]) ?? 0)
    }
}
