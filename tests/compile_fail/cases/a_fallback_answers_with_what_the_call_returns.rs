use resile::{Error, Fallback};

fn main() {
    let fallback = Fallback::value(|_: Error<std::io::Error>| Ok("nobody"));
    let _ = fallback.call(|| async { Ok::<u32, std::io::Error>(42) });
}
