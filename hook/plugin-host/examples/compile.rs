//! The compiling process, as `volhook plugin compile` is one: a component on standard input, code on standard output.

fn main() -> Result<(), volhook_plugin_host::CompileError> {
    volhook_plugin_host::compile_stdin()
}
