//! A store in memory whose calls fail as scripted: before they have done anything, or after they have.

use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nothing is done, and it says so.
    Refused,
    /// It is done, and the answer is lost.
    Unanswered,
}

/// The faults of the next calls, in order; none after them.
#[derive(Debug, Default)]
pub struct Faulty {
    pub store: InMemory,
    faults: std::sync::Arc<Mutex<Vec<Fault>>>,
    stale: Mutex<Option<Vec<ObjectMeta>>>,
}

fn next(faults: &Mutex<Vec<Fault>>) -> Fault {
    faults.lock().expect("no panic").pop().unwrap_or(Fault::None)
}

fn fault() -> Error {
    Error::Generic { store: "faulty", source: "as scripted".into() }
}

async fn call<T>(faults: &Mutex<Vec<Fault>>, work: impl Future<Output = Result<T>>) -> Result<T> {
    match next(faults) {
        Fault::None => work.await,
        Fault::Refused => Err(fault()),
        Fault::Unanswered => work.await.and(Err(fault())),
    }
}

impl Faulty {
    pub fn script(&self, faults: Vec<Fault>) {
        *self.faults.lock().expect("no panic") = faults;
    }

    /// What the next list is: somebody asked for it some time ago, and only now looks at it.
    pub fn list_next(&self, objects: Vec<ObjectMeta>) {
        *self.stale.lock().expect("no panic") = Some(objects);
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        call(&self.faults, self.store.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = call(&self.faults, self.store.put_multipart_opts(location, opts)).await?;
        Ok(Box::new(FaultyUpload { upload, faults: self.faults.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        call(&self.faults, self.store.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match next(&self.faults) {
            Fault::None => self.store.delete_stream(locations),
            Fault::Refused | Fault::Unanswered => stream::once(async { Err(fault()) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Some(objects) = self.stale.lock().expect("no panic").take() {
            return stream::iter(objects.into_iter().map(Ok)).boxed();
        }
        match next(&self.faults) {
            Fault::None => self.store.list(prefix),
            Fault::Refused => stream::once(async { Err(fault()) }).boxed(),
            Fault::Unanswered => self.store.list(prefix).take(1).chain(stream::once(async { Err(fault()) })).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    upload: Box<dyn MultipartUpload>,
    faults: std::sync::Arc<Mutex<Vec<Fault>>>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let (part, faults) = (self.upload.put_part(payload), self.faults.clone());
        async move { call(&faults, part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        call(&self.faults, self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        call(&self.faults, self.upload.abort()).await
    }
}
