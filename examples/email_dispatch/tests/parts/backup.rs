//! Backups in files, and what a replay makes of them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use email_dispatch::{
    backup::{BackupError, Backups, Listing, Replayed, replay},
    personal::Keys,
    record::Topic,
    request::{ContentType, EmailRequest, Kind, Priority},
    store::{Claim, Claimed, Facts, Finish, Ledger, LedgerSettings, Outbox, Status, Store, Written},
};
use uuid::Uuid;

use crate::database::TestDatabase;

const FACTS: Facts = Facts { kind: Kind::Transactional, priority: Priority::High };

fn request(id: u128, keys: &Keys) -> EmailRequest {
    EmailRequest {
        id: Uuid::from_u128(id),
        to: Some(keys.encrypt("jane.doe@example.com")),
        phone: None,
        subject: "Hello".to_owned(),
        content: Some("Hello".to_owned()),
        template: None,
        variables: serde_json::Map::new(),
        content_type: ContentType::Text,
        attachments: Vec::new(),
        kind: FACTS.kind,
        priority: FACTS.priority,
        timestamp: "2026-01-01T00:00:00Z".to_owned(),
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn ids(listing: &Listing) -> Vec<u128> {
    listing.backups.iter().map(|backup| backup.id.as_u128()).collect()
}

mod files_of_their_own {
    use super::*;

    #[tokio::test]
    async fn a_missing_folder_is_made_when_there_is_something_to_save() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a").join("b");
        let backups = Backups::open(&folder).await.unwrap();
        assert!(backups.list().await.unwrap().backups.is_empty());
        assert!(!folder.exists(), "trying it out leaves nothing");
        let path = backups.save(&request(7, &Keys::random()), "no server took it", 5_000).await.unwrap();
        assert_eq!((path.parent(), backups.list().await.unwrap().backups.len()), (Some(folder.as_path()), 1));
    }

    #[tokio::test]
    async fn a_backup_is_what_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::open(folder.path()).await.unwrap();
        let request = request(7, &Keys::random());
        let path = backups.save(&request, "no server took it", 5_000).await.unwrap();
        assert_eq!(path, folder.path().join("00000000-0000-0000-0000-000000000007.json"));

        let listing = backups.list().await.unwrap();
        let backup = &listing.backups[0];
        assert_eq!((backup.id, backup.saved_at_ms), (request.id, 5_000));
        assert_eq!((backup.reason.as_str(), &backup.path), ("no server took it", &path));
        assert_eq!(backups.request(backup).await.unwrap(), request);
    }

    #[tokio::test]
    async fn nothing_but_whole_files_with_their_final_name_are_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::open(folder.path()).await.unwrap();
        let keys = Keys::random();
        let saves = (0..20).map(|id| {
            let (backups, request) = (backups.clone(), request(id, &keys));
            async move { backups.save(&request, "", 0).await }
        });
        for saved in futures::future::join_all(saves).await {
            saved.unwrap();
        }
        let files = files(folder.path());
        assert_eq!(files.len(), 20);
        assert!(files.iter().all(|name| name.ends_with(".json") && !name.starts_with('.')), "{files:?}");
    }

    #[tokio::test]
    async fn the_same_request_saved_again_replaces_its_backup() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::open(folder.path()).await.unwrap();
        let request = request(1, &Keys::random());
        backups.save(&request, "first", 1).await.unwrap();
        backups.save(&request, "second", 2).await.unwrap();
        let listing = backups.list().await.unwrap();
        assert_eq!(listing.backups.iter().map(|backup| backup.reason.as_str()).collect::<Vec<_>>(), ["second"]);
    }

    #[tokio::test]
    async fn backups_are_listed_from_the_oldest_on() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::open(folder.path()).await.unwrap();
        let keys = Keys::random();
        for (id, saved_at_ms) in [(1, 300), (2, 100), (3, 200), (4, 100)] {
            backups.save(&request(id, &keys), "", saved_at_ms).await.unwrap();
        }
        assert_eq!(ids(&backups.list().await.unwrap()), [2, 4, 3, 1]);
    }

    #[tokio::test]
    async fn a_file_that_is_no_backup_is_reported_and_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::open(folder.path()).await.unwrap();
        backups.save(&request(1, &Keys::random()), "", 0).await.unwrap();
        let cut = folder.path().join("cut.json");
        fs::write(&cut, r#"{"savedAtMs": 1, "reason": "to jane.doe@example.com", "#).unwrap();
        fs::create_dir(folder.path().join("folder.json")).unwrap();
        fs::write(folder.path().join("notes.txt"), "not ours").unwrap();

        let listing = backups.list().await.unwrap();
        assert_eq!((ids(&listing), listing.unreadable.len()), (vec![1], 2));
        let told: Vec<_> = listing.unreadable.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|error| error.contains("cut.json") && error.contains("line 1")), "{told:?}");
        assert!(told.iter().any(|error| error.contains("folder.json")), "{told:?}");
        assert!(!told.concat().contains("jane"), "{told:?}");
    }

    #[tokio::test]
    async fn what_a_process_left_unfinished_is_no_backup_and_is_removed_once_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join(".unfinished-old"), folder.path().join(".unfinished-new"));
        fs::write(&new, "{").unwrap();
        let hour_ago = fs::File::create(&old).unwrap();
        let modified = hour_ago.metadata().unwrap().modified().unwrap();
        hour_ago.set_modified(modified - std::time::Duration::from_secs(3_601)).unwrap();

        let backups = Backups::open(folder.path()).await.unwrap();
        assert!(!old.exists() && new.exists(), "another process may be writing the new one");
        let listing = backups.list().await.unwrap();
        assert!(listing.backups.is_empty() && listing.unreadable.is_empty());
    }

    #[tokio::test]
    async fn no_address_is_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::open(folder.path()).await.unwrap();
        let reason = "550 <jane.doe@example.com> is unknown";
        let path = backups.save(&request(1, &Keys::random()), reason, 0).await.unwrap();
        let written = fs::read_to_string(path).unwrap();
        assert!(!written.contains("jane") && written.contains("j***@e***.com"), "{written}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_the_owner_can_read_a_backup() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::open(folder.path()).await.unwrap();
        let path = backups.save(&request(1, &Keys::random()), "", 0).await.unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn removing_a_backup_twice_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::open(folder.path()).await.unwrap();
        backups.save(&request(1, &Keys::random()), "", 0).await.unwrap();
        let listing = backups.list().await.unwrap();
        backups.remove(&listing.backups[0]).await.unwrap();
        backups.remove(&listing.backups[0]).await.unwrap();
        assert!(files(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn what_was_saved_again_in_the_meantime_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::open(folder.path()).await.unwrap();
        let request = request(1, &Keys::random());
        backups.save(&request, "first", 1).await.unwrap();
        let listing = backups.list().await.unwrap();
        backups.save(&request, "second", 2).await.unwrap();
        backups.remove(&listing.backups[0]).await.unwrap();
        assert_eq!(backups.list().await.unwrap().backups[0].reason, "second");
    }
}

mod what_cannot_be_written {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_is_a_file_is_refused_by_name() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("backups");
        fs::write(&folder, "a file").unwrap();
        let error = Backups::open(&folder).await.unwrap_err();
        assert!(matches!(&error, BackupError::Folder { path, .. } if *path == folder));
        let expected = format!("the backup folder '{}' cannot be used: ", folder.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }

    #[tokio::test]
    async fn a_folder_that_is_a_file_by_now_is_an_error_that_names_the_file() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("backups");
        let backups = Backups::open(&folder).await.unwrap();
        fs::write(&folder, "a file").unwrap();
        let error = backups.save(&request(1, &Keys::random()), "", 0).await.unwrap_err().to_string();
        let expected = format!("the backup file '{}': ", folder.join(format!("{}.json", Uuid::from_u128(1))).display());
        assert!(error.starts_with(&expected) && error.len() > expected.len(), "{error}");
        assert!(matches!(backups.list().await, Err(BackupError::Folder { .. })));
    }

    #[tokio::test]
    async fn a_save_that_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::open(folder.path()).await.unwrap();
        let in_the_way = folder.path().join(format!("{}.json", Uuid::from_u128(1)));
        fs::create_dir(&in_the_way).unwrap();
        backups.save(&request(1, &Keys::random()), "", 0).await.unwrap_err();
        assert_eq!(files(folder.path()).len(), 1, "only what was in the way");
    }

    /// On a disk of 64 KiB, which only a process with a name space of its own can mount.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_full_disk_is_an_error_that_says_so_and_keeps_the_earlier_backup() {
        const DISK: &str = "EMAIL_DISPATCH_TEST_SMALL_DISK";
        let Some(disk) = std::env::var_os(DISK) else {
            return on_a_small_disk(DISK).await;
        };
        let backups = Backups::open(PathBuf::from(&disk)).await.unwrap();
        let mut request = request(1, &Keys::random());
        backups.save(&request, "small", 1).await.unwrap();
        request.content = Some("x".repeat(1 << 20));
        let error = backups.save(&request, "large", 2).await.unwrap_err().to_string();
        assert!(error.contains("No space left on device"), "{error}");
        let listing = backups.list().await.unwrap();
        assert_eq!(listing.backups[0].reason, "small");
        assert_eq!(files(Path::new(&disk)).len(), 1);

        let _filled = fs::write(Path::new(&disk).join("rest"), vec![0; 1 << 20]);
        let error = Backups::open(PathBuf::from(&disk)).await.unwrap_err().to_string();
        assert!(error.contains("cannot be used: ") && error.contains("No space left on device"), "{error}");
        eprintln!("the small disk was full");
    }

    #[cfg(target_os = "linux")]
    async fn on_a_small_disk(variable: &str) {
        let disk = tempfile::tempdir().unwrap();
        let test = "backup::what_cannot_be_written::a_full_disk_is_an_error_that_says_so_and_keeps_the_earlier_backup";
        let script = r#"mount -t tmpfs -o size=64k none "$1" && echo mounted && exec "$2" --exact "$3" --nocapture"#;
        let child = tokio::process::Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .args([disk.path().as_os_str(), std::env::current_exe().unwrap().as_os_str(), test.as_ref()])
            .env(variable, disk.path())
            .output()
            .await;
        match child {
            Ok(child) if String::from_utf8_lossy(&child.stdout).starts_with("mounted") => {
                let told = [child.stdout, child.stderr].concat();
                let told = String::from_utf8_lossy(&told);
                assert!(child.status.success() && told.contains("the small disk was full"), "{told}");
            }
            _ => eprintln!("skipped: no small disk can be mounted here"),
        }
    }
}

mod replays {
    use super::*;

    /// A folder, a database and the keys of both.
    struct Setting {
        folder: tempfile::TempDir,
        backups: Backups,
        ledger: Ledger,
        outbox: Outbox,
        keys: Keys,
    }

    impl Setting {
        async fn new(store: &Store) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let backups = Backups::open(folder.path()).await.unwrap();
            let (ledger, outbox) = (store.ledger(LedgerSettings::default()), store.outbox());
            Self { folder, backups, ledger, outbox, keys: Keys::random() }
        }

        async fn save(&self, id: u128) -> EmailRequest {
            let request = request(id, &self.keys);
            self.backups.save(&request, "no server took it", 1_000).await.unwrap();
            request
        }

        async fn claim(&self, id: u128) -> Claim {
            match self.ledger.claim(Uuid::from_u128(id), FACTS, 0).await.unwrap() {
                Claimed::Yes(claim) => claim,
                other => panic!("{other:?}"),
            }
        }

        async fn finished(&self, id: u128, finish: Finish) {
            let claim = self.claim(id).await;
            assert_eq!(self.ledger.finish(&claim, finish, Vec::new()).await.unwrap(), Written::Yes);
        }

        async fn replay(&self) -> Replayed {
            replay(&self.backups, &self.ledger, &self.outbox, &self.keys).await.unwrap()
        }

        fn left(&self) -> usize {
            files(self.folder.path()).len()
        }

        async fn status(&self, id: u128) -> Status {
            self.ledger.find(Uuid::from_u128(id)).await.unwrap().unwrap().status
        }
    }

    async fn with_a_setting(test: impl AsyncFn(&Setting)) {
        for database in [TestDatabase::sqlite().await, TestDatabase::postgres().await].into_iter().flatten() {
            test(&Setting::new(&database.store().await).await).await;
            database.remove().await;
        }
    }

    fn only(id: u128) -> Vec<Uuid> {
        vec![Uuid::from_u128(id)]
    }

    #[tokio::test]
    async fn a_request_that_nobody_knows_is_accepted_and_found_by_no_second_replay() {
        with_a_setting(async |setting| {
            let request = setting.save(1).await;
            assert_eq!(setting.replay().await.accepted, only(1));
            let rows = setting.outbox.next(10).await.unwrap();
            let record = &rows[0].record;
            assert_eq!((rows.len(), record.topic), (1, Topic::High));
            assert_eq!(serde_json::from_slice::<EmailRequest>(&record.payload).unwrap(), request);
            assert_eq!(record.key, request.record_key(&setting.keys).unwrap());
            assert_eq!((setting.status(1).await, setting.left()), (Status::Pending, 0));

            let second = setting.replay().await;
            assert!(second.accepted.is_empty() && second.on_their_way.is_empty());
            assert_eq!(setting.outbox.len().await.unwrap(), 1);
        })
        .await;
    }

    #[tokio::test]
    async fn a_failed_request_begins_anew() {
        with_a_setting(async |setting| {
            setting.save(1).await;
            setting.finished(1, Finish::Failed { reason: "550".to_owned() }).await;
            assert_eq!(setting.replay().await.reopened, only(1));
            assert_eq!((setting.status(1).await, setting.left()), (Status::Pending, 0));
            assert_eq!(setting.outbox.len().await.unwrap(), 1);
            assert_eq!(setting.claim(1).await.attempts, 1);
        })
        .await;
    }

    #[tokio::test]
    async fn what_has_gone_out_is_not_sent_again_and_its_file_goes() {
        with_a_setting(async |setting| {
            setting.save(1).await;
            setting.save(2).await;
            let claim = setting.claim(1).await;
            assert_eq!(setting.ledger.sent(&claim, "primary-smtp").await.unwrap(), Written::Yes);
            setting.finished(2, Finish::SmsSent).await;
            assert_eq!(setting.replay().await.done, [Uuid::from_u128(1), Uuid::from_u128(2)]);
            assert_eq!((setting.left(), setting.outbox.len().await.unwrap()), (0, 0));
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_on_its_way_is_left_alone() {
        with_a_setting(async |setting| {
            for id in 1..=3 {
                setting.save(id).await;
            }
            setting.finished(1, Finish::Again { reason: "421".to_owned() }).await;
            let _sending = setting.claim(2).await;
            let in_doubt = setting.claim(3).await;
            assert_eq!(setting.ledger.hand_over(&in_doubt).await.unwrap(), Written::Yes);
            let replayed = setting.replay().await;
            assert_eq!(replayed.on_their_way, [1, 2, 3].map(Uuid::from_u128));
            assert_eq!((setting.left(), setting.outbox.len().await.unwrap()), (3, 0));
        })
        .await;
    }

    #[tokio::test]
    async fn what_may_have_gone_out_waits_for_somebody_to_decide() {
        with_a_setting(async |setting| {
            let request = setting.save(1).await;
            let request = serde_json::to_string(&request).unwrap();
            setting.finished(1, Finish::Unknown { reason: "no answer".to_owned(), request }).await;
            assert_eq!(setting.replay().await.unknown, only(1));
            assert_eq!((setting.status(1).await, setting.left()), (Status::Unknown, 1));
            assert_eq!(setting.outbox.len().await.unwrap(), 0);
        })
        .await;
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_reported_and_stops_nothing() {
        with_a_setting(async |setting| {
            fs::write(setting.folder.path().join("a.json"), "{").unwrap();
            setting.backups.save(&request(1, &Keys::random()), "under another key", 0).await.unwrap();
            setting.save(2).await;
            let replayed = setting.replay().await;
            assert_eq!(replayed.accepted, only(2));
            let faults: Vec<_> = replayed.faulty.iter().map(ToString::to_string).collect();
            assert_eq!(faults.len(), 2, "{faults:?}");
            assert!(faults.iter().any(|fault| fault.contains("a.json")), "{faults:?}");
            assert!(
                faults.iter().any(|fault| fault.contains("its address was encrypted with another key")),
                "{faults:?}"
            );
            assert_eq!(setting.left(), 2);
        })
        .await;
    }

    #[tokio::test]
    async fn requests_are_taken_up_in_the_order_in_which_they_were_saved() {
        with_a_setting(async |setting| {
            for (id, saved_at_ms) in [(1, 30), (2, 10), (3, 20)] {
                setting.backups.save(&request(id, &setting.keys), "", saved_at_ms).await.unwrap();
            }
            setting.replay().await;
            let rows = setting.outbox.next(10).await.unwrap();
            let order: BTreeMap<_, _> = rows
                .iter()
                .map(|row| (row.seq, serde_json::from_slice::<EmailRequest>(&row.record.payload).unwrap().id.as_u128()))
                .collect();
            assert_eq!(order.into_values().collect::<Vec<_>>(), [2, 3, 1]);
        })
        .await;
    }
}
