//! What a person does beside a service that runs: hand requests in, look, and decide.

use email_dispatch::{
    embedded::MailFault,
    request::{Kind, Priority},
    sample::Samples,
};
use serde_json::Value;

use crate::{
    kafka::until,
    world::{ids, some},
};

in_each_world! {
    async fn requests_can_be_handed_in_over_http_and_through_the_database(world) {
        let process = world.serve().await;
        let over_http = ["produce", "--count", "30", "--url", process.url()];
        assert!(world.run(&over_http).await.well().contains("30 accepted, 0 known before"));
        let to_the_outbox = ["produce", "--count", "20", "--kind", "marketing", "--priority", "low"];
        assert!(world.run(&to_the_outbox).await.well().contains("20 accepted, 0 known before"));
        world.until_sent(50).await;
        world.assert_no_doubles();
        let rows = world.rows().await;
        assert!(rows.values().filter(|row| row.kind == "MARKETING" && row.priority == "LOW").count() >= 20);
        let status = world.run(&["status"]).await.well();
        assert!(status.lines().any(|line| line.split_whitespace().eq(["SENT", "50"])), "{status}");
    }

    async fn dead_letters_and_backups_are_listed_and_sent_again_once(world) {
        world.primary.set(MailFault::Recipient { code: 550, percent: 100 }).await;
        let process = world.serve().await;
        let normal = without_phones(&Samples { priority: Some(Priority::Normal), ..transactional(1) }, 3);
        let high = without_phones(&Samples { priority: Some(Priority::High), ..transactional(2) }, 4);
        world.post(process.url(), &normal).await.unwrap();
        world.post(process.url(), &high).await.unwrap();
        until("seven dead letters", async || {
            world.counts().await.failed == 7 && world.store.outbox().is_empty().await.unwrap()
        })
        .await;
        let listed = world.run(&["dlt", "list"]).await.well();
        assert!(listed.contains("7 dead letters"), "{listed}");
        for id in ids(&normal) {
            assert!(listed.lines().any(|line| line.contains(&id.to_string()) && line.contains("recipient")), "{listed}");
        }

        world.primary.set(MailFault::None).await;
        let first = ids(&normal)[0].to_string();
        assert!(world.run(&["dlt", "replay", "--id", &first]).await.well().contains("1 to be sent again, 0 left alone"));
        assert!(world.run(&["replay", "--from-files"]).await.well().contains("4 to be sent"));
        until("five requests SENT", async || world.counts().await.sent == 5).await;
        let rest = world.run(&["dlt", "replay"]).await.well();
        assert!(rest.contains("2 to be sent again, 5 left alone"), "{rest}");
        world.until_sent(7).await;
        assert!(world.run(&["replay", "--from-files"]).await.well().contains("0 to be sent"));
        world.assert_no_doubles();
    }
}

fn transactional(seed: u64) -> Samples {
    Samples { seed, kind: Some(Kind::Transactional), ..Samples::default() }
}

/// Requests for which there is no other way than a mail.
fn without_phones(samples: &Samples, count: usize) -> Vec<Value> {
    let mut requests = some(samples, count);
    for request in &mut requests {
        request.as_object_mut().unwrap().remove("phone");
    }
    requests
}
