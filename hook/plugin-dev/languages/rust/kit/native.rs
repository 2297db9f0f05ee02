//! Answers questions outside the sandbox, for `volhook plugin test`.

fn main() -> std::io::Result<()> {
    {{crate}}::__volhook_native()
}
