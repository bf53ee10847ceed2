// SPDX-License-Identifier: Apache-2.0
internal import Commands
internal import Glibc

@main
struct Thaw {
    static func main() {
        exit(Application.run(arguments: Array(CommandLine.arguments.dropFirst())))
    }
}
