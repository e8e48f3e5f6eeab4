//! (to be written)

/// (to be written)
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
