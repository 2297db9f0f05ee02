//! Answers questions outside the sandbox, for `volhook plugin test`.

fn main() -> std::io::Result<()> {
    volhook_team_quota::__volhook_native()
}
