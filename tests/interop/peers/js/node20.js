// Imported before everything else: what libp2p needs and this Node lacks, and one of its modules that must not be fast.
import { createRequire } from 'node:module'

Promise.withResolvers ??= function () {
  const deferred = {}
  deferred.promise = new Promise((resolve, reject) => Object.assign(deferred, { resolve, reject }))
  return deferred
}

// The WebAssembly form of xsalsa20 dies after some tens of MiB and loses bytes; without WebAssembly it takes its other form.
const { WebAssembly } = globalThis
delete globalThis.WebAssembly
createRequire(import.meta.url)('xsalsa20')
Object.defineProperty(globalThis, 'WebAssembly', { value: WebAssembly, configurable: true, writable: true })
if (globalThis.WebSocket === undefined) {
  globalThis.WebSocket = (await import('ws')).WebSocket
}
