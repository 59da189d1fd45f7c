#!/usr/bin/env node
// A js-libp2p host in a private network that speaks Bethrou's two protocols, so that the Python program can be tested
// against the real thing. ../../README.md describes its events and commands.
import './node20.js'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { parseArgs } from 'node:util'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { dcutr } from '@libp2p/dcutr'
import { identify, identifyPush } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { preSharedKey } from '@libp2p/pnet'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { webSockets } from '@libp2p/websockets'
import { createLibp2p } from 'libp2p'
import { runClient } from './client.js'
import { runExit } from './exit.js'

const { positionals: [role], values: options } = parseArgs({
  allowPositionals: true,
  options: {
    psk: { type: 'string' },
    listen: { type: 'string', default: '' },
    announce: { type: 'string', default: '' },
    dial: { type: 'string', default: '' },
    relay: { type: 'string', default: '' },
    'connect-relay': { type: 'string', default: '' },
    'identity-seed': { type: 'string' },
    'early-muxer': { type: 'string', default: 'true' },
    security: { type: 'string', default: 'default' },
    mode: { type: 'string', default: 'proper' }
  }
})
if ((role !== 'exit' && role !== 'client') || options.mode !== 'proper') {
  console.error('usage: peer.js exit|client --psk FILE ... [--mode proper]')
  process.exit(2)
}

// libp2p exports nothing but its entry point, so its version is read beside that.
const entry = createRequire(import.meta.url).resolve('libp2p')
const { version } = JSON.parse(readFileSync(entry.replace(/\/dist\/.*$/, '/package.json')))

/** The same security, but it leaves the muxer to multistream-select. */
const alone = (make) => (components) => {
  const encrypter = make(components)
  for (const name of ['secureOutbound', 'secureInbound']) {
    const secure = encrypter[name].bind(encrypter)
    encrypter[name] = (connection, settings) => secure(connection, { ...settings, skipStreamMuxerNegotiation: true })
  }
  return encrypter
}

const securities = { default: [noise()], noise: [noise()], tls: [tls()], 'tls,noise': [tls(), noise()], 'noise,tls': [noise(), tls()] }[options.security]
if (securities == null) {
  console.error(`unknown security ${options.security}`)
  process.exit(2)
}

const libp2p = await createLibp2p({
  privateKey: options['identity-seed'] == null
    ? await generateKeyPair('Ed25519')
    : await generateKeyPairFromSeed('Ed25519', Buffer.from(options['identity-seed'], 'hex')),
  nodeInfo: { userAgent: `bethrou-interop-js/v${version}` },
  addresses: {
    listen: [...options.listen.split(','), options['connect-relay'] && `${options['connect-relay']}/p2p-circuit`].filter(Boolean),
    appendAnnounce: options.announce.split(',').filter(Boolean)
  },
  transports: [tcp(), webSockets(), circuitRelayTransport()],
  connectionProtector: preSharedKey({ psk: readFileSync(options.psk) }),
  connectionEncrypters: options['early-muxer'] === 'false' ? securities.map(alone) : securities,
  streamMuxers: [yamux({ maxInboundStreams: 100_000, maxOutboundStreams: 100_000 })],
  connectionManager: { inboundConnectionThreshold: 1000 },
  // its pings wait behind what it sends in bulk: on a busy machine longer than the 5 s after which it drops the connection
  connectionMonitor: { pingTimeout: { minTimeout: 60_000 } },
  services: {
    identify: identify(),
    push: identifyPush(),
    ping: ping(),
    dcutr: dcutr(),
    ...(options.relay === '' ? {} : { relay: circuitRelayServer({ reservations: { applyDefaultLimit: options.relay === 'default' } }) })
  }
})

const emit = (line) => process.stdout.write(JSON.stringify(line) + '\n')

/** What a peer's identify said, and how its connection was agreed. */
const identified = (event, { peerId, agentVersion, protocolVersion, protocols, listenAddrs, observedAddr, signedPeerRecord, connection }) => ({
  event,
  peer: peerId.toString(),
  agent: agentVersion ?? '',
  protocol_version: protocolVersion ?? '',
  protocols,
  listen_addrs: listenAddrs.map(String),
  observed_addr: observedAddr?.toString() ?? '',
  signed_record: signedPeerRecord != null,
  remote_addr: connection.remoteAddr.toString(),
  security: connection.encryption,
  muxer: connection.multiplexer,
  limited: connection.limits != null
})

libp2p.addEventListener('connection:open', ({ detail: { remotePeer, remoteAddr, direction } }) => {
  emit({ event: 'opened', peer: remotePeer.toString(), address: remoteAddr.toString(), direction })
})

const quit = async (status) => {
  await libp2p.stop()
  process.exit(status)
}
process.on('SIGTERM', () => quit(0))

const context = { options, emit, identified, version, quit, proxyID: '/bethrou/proxy/1.0.0', pingID: '/bethrou/ping/1.0.0' }
if (role === 'exit') {
  await runExit(libp2p, context)
  process.stdin.on('end', () => quit(0)).resume()
} else {
  await runClient(libp2p, context).catch(async (error) => {
    emit({ event: 'failed', error: error.message })
    await quit(1)
  })
}
