//! The program under test, built together with the suites that start it.

fn main() -> std::process::ExitCode {
    kvctl::main()
}
