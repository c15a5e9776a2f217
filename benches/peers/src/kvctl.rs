//! The `kvctl` program; everything it does is in the library beside it.

fn main() -> std::process::ExitCode {
    kvctl::main()
}
