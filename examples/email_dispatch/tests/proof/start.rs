//! A service that finds things not as they should be when it starts.

use std::time::Duration;

use email_dispatch::{sample::Samples, store::Status};

use crate::{
    kafka::until,
    world::{self, some},
};

/// Another key than the world's.
const OTHER_KEYS: &str = "//////////////////////////////////////////8=";

in_each_world! {
    async fn requests_are_accepted_before_the_broker_is_there_and_sent_once_it_is(world) {
        world.kafka.stop();
        let process = world.serve().await;
        world.post(process.url(), &some(&Samples::default(), 100)).await.unwrap();
        assert_eq!(world.counts().await.pending, 100);
        assert_eq!(world.store.outbox().len().await.unwrap(), 100);
        world.kafka.resume().await;
        world.until_sent(100).await;
        world.assert_no_doubles();
    }

    async fn under_a_wrong_key_requests_become_dead_letters_which_the_right_key_can_replay(world) {
        let door = world.door();
        let passed = some(&Samples::default(), 20).iter().map(|body| door.read(body.to_string().as_bytes()).unwrap()).collect();
        door.accept(passed).await.unwrap();
        let wrong = world.serve_with(&[("keys", OTHER_KEYS)]).await;
        until("20 dead letters", async || {
            world.counts().await.failed == 20 && world.store.outbox().is_empty().await.unwrap()
        })
        .await;
        wrong.terminate();
        assert!(wrong.end(Duration::from_secs(12)).await.success());
        assert_eq!(world.primary.accepted() + world.secondary.accepted(), 0);

        let listed = world.run(&["dlt", "list"]).await.well();
        assert!(listed.contains("20 dead letters") && listed.contains("invalid: to"), "{listed}");
        let replayed = world.run(&["dlt", "replay"]).await.well();
        assert!(replayed.contains("20 to be sent again, 0 left alone"), "{replayed}");
        let _right = world.serve().await;
        world.until_sent(20).await;
        assert!(world.rows().await.values().all(|row| row.status == Status::Sent));
        world.assert_no_doubles();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_cannot_be_read_keeps_the_service_from_starting_and_is_named() {
    world::embedded(async |world| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("welcome")).unwrap();
        std::fs::write(folder.path().join("welcome/subject.txt"), "{{ unclosed").unwrap();
        let templates = folder.path().display().to_string();
        let said = world.run(&["serve", "--templates-dir", &templates]).await;
        assert_eq!((said.code, said.output.as_str()), (2, ""), "{said:?}");
        assert!(said.errors.contains("--templates-dir") && said.errors.contains("welcome"), "{said:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_keys_does_not_start_on_a_database_that_outlives_it() {
    world::embedded(async |world| {
        let said = world.run_with(&["serve"], &[("keys", "")]).await;
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.errors.contains("EMAIL_DISPATCH_KEYS"), "{said:?}");
    })
    .await;
}
