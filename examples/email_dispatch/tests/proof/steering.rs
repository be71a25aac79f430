//! What operators and files change while the service runs.

use email_dispatch::sample::Samples;
use serde_json::{Value, json};

use crate::{kafka::until, process::Process, world::some};

const TOKEN: &str = "only-the-operators-know-this";

fn policies(failure_rate: u32) -> String {
    format!("resilience4j.circuitbreaker.instances.primary-smtp.failure-rate-threshold: {failure_rate}")
}

async fn get(process: &Process, path: &str) -> String {
    reqwest::get(format!("{}{path}", process.url())).await.unwrap().error_for_status().unwrap().text().await.unwrap()
}

async fn breaker(process: &Process) -> Value {
    let answer: Value = serde_json::from_str(&get(process, "/actuator/circuitbreakers").await).unwrap();
    answer["circuitBreakers"]["primary-smtp"].clone()
}

async fn force_open(process: &Process, token: &str) -> u16 {
    let post = reqwest::Client::new().post(format!("{}/actuator/circuitbreakers/primary-smtp", process.url()));
    let post = post.bearer_auth(token).header("content-type", "application/json");
    post.body(json!({ "updateState": "FORCE_OPEN" }).to_string()).send().await.unwrap().status().as_u16()
}

in_each_world! {
    async fn an_operator_takes_a_server_out_and_a_file_changes_its_breaker_while_mails_go_on(world) {
        let file = world.file("policies.yml", &policies(50));
        let settings = [("policies-file", file.to_str().unwrap()), ("operator-token", TOKEN)];
        let process = world.serve_with(&settings).await;
        let closed = "resilience4j_circuitbreaker_state{name=\"primary-smtp\",state=\"closed\"} 1";
        let metrics = get(&process, "/metrics").await;
        assert!(metrics.contains(closed), "{metrics}");

        assert_eq!(force_open(&process, "somebody-elses-token").await, 401);
        assert_eq!(breaker(&process).await["state"], "CLOSED");
        assert_eq!(force_open(&process, TOKEN).await, 200);
        assert_eq!(breaker(&process).await["state"], "FORCED_OPEN");
        world.post(process.url(), &some(&Samples::default(), 50)).await.unwrap();
        world.until_sent(50).await;
        assert_eq!((world.primary.accepted(), world.secondary.accepted()), (0, 50));
        let metrics = get(&process, "/metrics").await;
        assert!(!metrics.contains(closed), "{metrics}");
        assert!(metrics.contains("emails_processed_total"), "{metrics}");

        world.file("policies.yml", &policies(5_000));
        until("the change is refused", async || process.log().contains("settings were refused")).await;
        assert_eq!(breaker(&process).await["failureRateThreshold"], "50.0%");
        world.file("policies.yml", &policies(70));
        until("the change is in force", async || breaker(&process).await["failureRateThreshold"] == "70.0%").await;
        assert_eq!(breaker(&process).await["state"], "FORCED_OPEN", "its state is kept");
        world.assert_no_doubles();
    }
}
