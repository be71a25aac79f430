//! The live page in a real browser: Debian's `chromium`, driven through `chromedriver`. Skipped where they are not
//! installed. Keeps pictures in `target/`.
#![allow(clippy::print_stdout)]

use std::{
    fs, io,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use axum::Router;
use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use resile::{CircuitBreaker, Resilience, admin, bulkhead, circuit_breaker, rate_limiter, registry::Existing};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};

const TOKEN: &str = "the-token-of-the-operator";
const PHONE: bool = true;
const DESK: bool = false;
const DARK: bool = true;
const LIGHT: bool = false;
/// For how long the browser may take for anything: it only bounds a test that fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service with the page, and a browser that shows it.
struct Shown {
    resilience: Resilience,
    page: Client,
    driver: Driver,
}

/// Ends the browser's driver, and the browser with it, however the test ends.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Shown {
    /// `None` where there is no browser.
    async fn new(phone: bool, dark: bool) -> Option<Self> {
        let (driver, port) = driver()?;
        let resilience = Resilience::new();
        let config = admin::Config::default().operator("on-call", TOKEN);
        let router = admin::router(&resilience, config).expect("settings that can be");
        let app = Router::new().nest("/actuator", router);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });

        let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!dark));
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1400,1000",
            &scheme,
        ];
        let mut options = json!({ "args": arguments });
        if phone {
            options["mobileEmulation"] = json!({ "deviceMetrics": { "width": 390, "height": 1000, "pixelRatio": 1 } });
        }
        let capabilities = serde_json::Map::from_iter([("goog:chromeOptions".to_owned(), options)]);
        let page = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a browser");
        page.goto(&format!("http://{address}/actuator/resile")).await.expect("the page");
        Some(Self { resilience, page, driver })
    }

    /// Opens at two failures of two calls.
    fn breaker(&self, name: &str) -> CircuitBreaker {
        let config = circuit_breaker::Config::default().sliding_window_size(2);
        self.resilience.circuit_breakers().get_with(name, config, Existing::Keep).expect("a breaker")
    }

    async fn script(&self, script: &str) -> Value {
        self.page.execute(script, Vec::new()).await.expect("a script that runs")
    }

    /// Asks until the answer is true.
    async fn until(&self, condition: &str) {
        let asked = async {
            while self.script(&format!("return !!({condition})")).await != json!(true) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, asked).await.is_err() {
            let text = self.script("return document.body.innerText").await;
            panic!("never: {condition}\n{}", text.as_str().unwrap_or_default());
        }
    }

    async fn wait(&self, css: &str) -> Element {
        self.page.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await.expect(css)
    }

    /// Opens the details of a breaker and returns one of its buttons.
    async fn button(&self, name: &str, action: &str) -> Element {
        let row = format!("[...document.querySelectorAll('.cb .row')].find((row) => row.named === '{name}')");
        self.until(&row).await;
        self.script(&format!("const row = {row}; row.open = true; row.id = 'wanted'")).await;
        self.wait(&format!("#wanted button[data-action={action}]")).await
    }

    async fn give_token(&self, token: &str) {
        self.until("document.getElementById('ask').open").await;
        self.wait("#token").await.send_keys(token).await.expect("keys");
        self.wait("#askForm button[type=submit]").await.click().await.expect("a click");
    }

    async fn picture(&self, file: &str) {
        let picture = self.page.screenshot().await.expect("a picture");
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(file), picture).expect("a file");
    }

    async fn end(self) {
        self.page.close().await.expect("the browser ends");
        drop(self.driver);
    }
}

/// A driver on a port of its own. It asks for a free one of IPv6 and then wants the same of IPv4, which another may have: it
/// ends, and the next asks anew.
fn driver() -> Option<(Driver, u16)> {
    let mut said = String::new();
    for _ in 0..10 {
        let started = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = match started {
            Ok(child) => Driver(child),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                println!("skipped: no chromedriver here (Debian: apt-get install chromium chromium-driver)");
                return None;
            }
            Err(error) => panic!("chromedriver: {error}"),
        };
        let output = driver.0.stdout.take().expect("its output");
        said.clear();
        for line in BufReader::new(output).lines() {
            let line = line.expect("text");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                return Some((driver, port.trim_end_matches('.').parse().expect("a port")));
            }
            said += &line;
            said += "\n";
        }
        if !said.contains("port not available") {
            break;
        }
    }
    panic!("chromedriver ended: {said}");
}

fn fail(breaker: &CircuitBreaker) {
    for _ in 0..2 {
        breaker.try_acquire().expect("admitted").failure();
    }
}

const STATE: &str = "document.querySelector('.cb .row .pill')?.lastChild?.textContent";

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_is_seen_opening_within_a_second() {
    let Some(shown) = Shown::new(DESK, LIGHT).await else { return };
    let breaker = shown.breaker("orders");
    shown.until(&format!("{STATE} === 'Closed'")).await;
    let watch = "const pill = document.querySelector('.cb .row .pill'); window.seen = 0;
        new MutationObserver(() => { if (pill.textContent.endsWith('Open')) window.seen ||= Date.now(); })
            .observe(pill, { childList: true });";
    shown.script(watch).await;
    let mut fastest = f64::INFINITY;
    // The machine may be busy with something else for one of them.
    for _ in 0..5 {
        let began = shown.script("window.seen = 0; return Date.now()").await.as_f64().expect("a time");
        fail(&breaker);
        shown.until("window.seen").await;
        let seen = shown.script("return window.seen").await.as_f64().expect("a time");
        fastest = fastest.min(seen - began);
        breaker.reset();
        shown.until(&format!("{STATE} === 'Closed'")).await;
    }
    println!("seen after {fastest} ms");
    assert!(fastest < 1000.0, "{fastest} ms");
    shown.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_forces_a_circuit_open() {
    let Some(shown) = Shown::new(DESK, LIGHT).await else { return };
    let breaker = shown.breaker("orders");
    shown.button("orders", "FORCE_OPEN").await.click().await.expect("a click");
    shown.give_token(TOKEN).await;
    shown.until(&format!("{STATE} === 'Forced open'")).await;
    assert_eq!(breaker.state(), circuit_breaker::State::ForcedOpen);
    shown.until("document.getElementById('changes').textContent.includes('FORCE_OPEN by on-call')").await;
    // The token is asked for once.
    shown.button("orders", "CLOSE").await.click().await.expect("a click");
    shown.until(&format!("{STATE} === 'Closed'")).await;
    assert_eq!(breaker.state(), circuit_breaker::State::Closed);
    // And is nowhere but in the page's memory.
    let kept = shown.script("return localStorage.length + sessionStorage.length + document.cookie.length").await;
    assert_eq!(kept, json!(0));
    shown.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused_visibly() {
    let Some(shown) = Shown::new(PHONE, DARK).await else { return };
    let breaker = shown.breaker("orders");
    shown.button("orders", "DISABLE").await.click().await.expect("a click");
    shown.give_token("a-guess-at-the-token").await;
    shown.until("document.getElementById('askWrong').textContent.includes('refused')").await;
    let message = shown.wait("#askWrong").await;
    assert!(message.is_displayed().await.expect("an answer"));
    shown.picture("admin-page-refused.png").await;
    assert_eq!(breaker.state(), circuit_breaker::State::Closed);
    // The right one, given then, does what was asked for.
    shown.give_token(TOKEN).await;
    shown.until(&format!("{STATE} === 'Disabled'")).await;
    shown.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_instances_are_shown_filtered_and_kept_up_with() {
    let Some(shown) = Shown::new(DESK, DARK).await else { return };
    for number in 0..480 {
        let breaker = shown.breaker(&format!("dependency-{number:03}"));
        match number % 40 {
            3 => fail(&breaker),
            17 => breaker.transition_to_forced_open().expect("allowed"),
            29 => breaker.transition_to_disabled().expect("allowed"),
            _ => breaker.try_acquire().expect("admitted").success(),
        }
    }
    let named = &shown.resilience;
    for number in 0..5 {
        let name = format!("dependency-{number:03}");
        named.retries().get(&name);
        named.time_limiters().get(&name);
        let limit = rate_limiter::Config::default().limit_for_period(10 + number);
        named.rate_limiters().get_with(&name, limit, Existing::Keep).expect("a limiter");
        let places = bulkhead::Config::default().max_concurrent_calls(5);
        named.bulkheads().get_with(&name, places, Existing::Keep).expect("a bulkhead");
    }
    shown.until("document.querySelectorAll('.row').length === 500").await;
    shown.until("document.getElementById('counts').textContent.includes('12Open')").await;
    shown.picture("admin-page.png").await;

    // Rows are kept, not made anew, and so is the focus on one.
    shown
        .script("window.rows = [...document.querySelectorAll('.row')]; rows[250].querySelector('summary').focus()")
        .await;
    shown.breaker("dependency-007").transition_to_open().expect("allowed");
    shown.until("window.rows[7].classList.contains('OPEN')").await;
    let kept =
        "return window.rows.every((row) => row.isConnected) && document.activeElement.parentNode === window.rows[250]";
    assert_eq!(shown.script(kept).await, json!(true));

    shown.wait("#query").await.send_keys("dependency-00").await.expect("keys");
    shown.until("document.getElementById('shown').textContent === '30 of 500 shown'").await;
    shown
        .script(
            "document.getElementById('query').value = ''; const show = document.getElementById('show');
        show.value = 'attention'; show.dispatchEvent(new Event('change'))",
        )
        .await;
    shown.until("document.getElementById('shown').textContent === '25 of 500 shown'").await;

    // A tick leaves the browser's thread free for nearly all of the time.
    let tick = "const of = performance.getEntriesByType('measure').filter((one) => one.name === 'tick').map((one) => one.duration).sort((a, b) => a - b);
        return of[of.length >> 1]";
    let middle = shown.script(tick).await.as_f64().expect("a time");
    println!("a tick with 500 instances takes {middle:.1} ms");
    assert!(middle < 1000.0, "{middle} ms");
    shown.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_shown_and_never_run() {
    let Some(shown) = Shown::new(DESK, LIGHT).await else { return };
    shown.breaker("<img src=x onerror=\"window.harmed=1\"><script>window.harmed=1</script>");
    shown.until("document.querySelector('.cb .name')").await;
    let name = shown.script("return document.querySelector('.cb .name').textContent").await;
    assert!(name.as_str().expect("text").starts_with("<img src=x"), "{name}");
    shown.script("document.querySelector('.row').open = true").await;
    assert_eq!(shown.script("return document.images.length + (window.harmed || 0)").await, json!(0));
    shown.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_used_by_keyboard_and_read_by_a_screen_reader() {
    let Some(shown) = Shown::new(DESK, LIGHT).await else { return };
    let breaker = shown.breaker("orders");
    shown.until("document.querySelector('.row')").await;
    let body = shown.wait("body").await;
    body.send_keys("/").await.expect("keys");
    assert_eq!(shown.script("return document.activeElement.id").await, json!("query"));
    // From the filter to the row, by Tab; Enter opens it; Tab again reaches the first button.
    let focused = || async { shown.page.active_element().await.expect("an element") };
    focused().await.send_keys("\u{e004}").await.expect("keys");
    focused().await.send_keys("\u{e004}").await.expect("keys");
    assert_eq!(shown.script("return document.activeElement.tagName").await, json!("SUMMARY"));
    focused().await.send_keys("\u{e007}").await.expect("keys");
    shown.until("document.querySelector('.row').open && document.querySelector('.row button')").await;
    focused().await.send_keys("\u{e004}").await.expect("keys");
    assert_eq!(shown.script("return document.activeElement.dataset.action").await, json!("CLOSE"));

    for landmark in ["header", "main", "form[role=search]", "h1", "[aria-live=polite]"] {
        shown.wait(landmark).await;
    }
    let unnamed = "return [...document.querySelectorAll('button, input, select, summary')].filter((one) => !one.hidden
        && !(one.getAttribute('aria-label') || one.textContent.trim() || one.closest('label'))).length";
    assert_eq!(shown.script(unnamed).await, json!(0));
    fail(&breaker);
    shown.until("document.getElementById('announce').textContent === 'orders: Open'").await;
    let label = shown.script("return document.querySelector('summary').getAttribute('aria-label')").await;
    assert!(label.as_str().expect("text").starts_with("orders, Open, 100 % failed"), "{label}");
    assert_eq!(shown.script("return document.activeElement.dataset.action").await, json!("CLOSE"), "the focus stays");
    shown.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_overflows_on_a_phone() {
    let Some(shown) = Shown::new(PHONE, LIGHT).await else { return };
    let breaker = shown.breaker(&"a-dependency-with-a-very-long-name-".repeat(6));
    fail(&breaker);
    shown.until("document.querySelector('.row.OPEN')").await;
    shown.script("document.querySelector('.row').open = true").await;
    shown.until("document.querySelector('.row button')").await;
    let over = shown.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
    shown.picture("admin-page-phone.png").await;
    assert_eq!(over, json!(0));
    shown.end().await;
}
