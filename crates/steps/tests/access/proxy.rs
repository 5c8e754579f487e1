//! A TCP proxy whose cable can be cut, or which stops moving bytes and keeps its sockets open.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cable {
    Whole,
    Frozen,
    Cut,
}

pub struct Proxy {
    pub port: u16,
    cable: watch::Sender<Cable>,
}

impl Proxy {
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cable, seen) = watch::channel(Cable::Whole);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { continue };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(pump(near_read, far_write, seen.clone()));
                tokio::spawn(pump(far_read, near_write, seen.clone()));
            }
        });
        Self { port, cable }
    }

    pub fn set(&self, cable: Cable) {
        self.cable.send_replace(cable);
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut cable: watch::Receiver<Cable>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let state = *cable.borrow_and_update();
        match state {
            Cable::Cut => return,
            Cable::Frozen => {
                if cable.changed().await.is_err() {
                    return;
                }
            }
            Cable::Whole => tokio::select! {
                read = from.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(length) => if to.write_all(&buffer[..length]).await.is_err() { return },
                },
                changed = cable.changed() => if changed.is_err() { return },
            },
        }
    }
}
