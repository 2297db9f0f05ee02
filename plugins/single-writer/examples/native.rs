//! Answers questions outside the sandbox, for `volhook plugin test`.

fn main() -> std::io::Result<()> {
    volhook_single_writer::__volhook_native()
}
