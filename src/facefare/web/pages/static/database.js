// What a page keeps in this browser alone (IndexedDB). Once a write resolves, it is on the disk.

export function database(name, version, upgrade) {
  const opened = () =>
    new Promise((resolve, reject) => {
      const opening = indexedDB.open(name, version);
      opening.onupgradeneeded = () => upgrade(opening.result);
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = () => reject(opening.error);
    });

  return async function done(store, mode, act) {
    const own = await opened();
    try {
      return await new Promise((resolve, reject) => {
        const transaction = own.transaction(store, mode, { durability: "strict" });
        const request = act(transaction.objectStore(store));
        transaction.oncomplete = () => resolve(request?.result);
        transaction.onerror = transaction.onabort = () => reject(transaction.error);
      });
    } finally {
      own.close();
    }
  };
}
