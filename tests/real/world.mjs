// One agent CLI under our broker: how to write to it as a peer does, to type as a person does, and to see what became of it.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

import { register, startBroker, until, workspace } from '../clients/support.mjs';
import { seed } from './clis.mjs';
import { Models, comes } from './models.mjs';

const WebSocket = createRequire(new URL('../clients/package.json', import.meta.url))('ws');

/** How long a message may take, in ms. */
export const PATIENCE = Number(process.env.PATIENCE ?? 60_000);

export const later = (ms) => new Promise((ok) => { setTimeout(ok, ms); });

let marks = 0;

export class World {
  #ends = [];
  #listeners = new Set();
  /** Every message: `{ mark, text, id, sentAt, typedAt, acceptedAt, urgent, blocked }`, times in ms. */
  sent = [];
  /** After how many ms each message was heard that interrupted. */
  heardAfter = [];
  /** Events of the broker, as they came. */
  events = [];
  /** All that the terminal showed, escape sequences included. */
  output = '';

  /** Returns as soon as the CLI's process runs. `says`: what the operator says of the program in the configuration file. */
  static async begin(cli, { dir, root, trusted = true, says }) {
    const world = new World();
    world.cli = cli;
    const t = { after: (end) => world.#ends.push(end) };
    try {
      world.models = await Models.start({ toolless: cli === 'aider' });
      world.#ends.push(() => world.models.stop());
      const { launcher, project } = seed(cli, { dir, root, trusted, url: world.models.url });
      world.project = project;
      if (says) fs.writeFileSync(path.join(dir, 'relay-broker.toml'), `[profile.${cli}]\n${says}\n`);
      world.broker = await startBroker(t, dir, { name: 'box' });
      await world.#listen();
      const relay = workspace(world.broker);
      world.me = (await register(t, relay, 'tester')).me;
      await world.broker.api('POST', '/api/spawn', { name: 'agent', cli: launcher, args: [], cwd: project, idle_threshold_secs: 1 });
      await until(async () => (await relay.agents.get('agent')).status !== 'offline', 'the agent to be online');
    } catch (error) {
      await world.end();
      throw error;
    }
    return world;
  }

  async #listen() {
    const socket = new WebSocket(`${this.broker.url.replace('http', 'ws')}/ws`, { headers: { 'x-api-key': this.broker.api_key } });
    this.#ends.push(() => socket.terminate());
    await new Promise((ok, bad) => { socket.once('open', ok).once('error', bad); });
    socket.on('message', (data) => {
      const event = JSON.parse(data);
      if (event.kind === 'worker_stream') {
        this.output += event.chunk;
        return;
      }
      event.at = performance.now();
      this.events.push(event);
      for (const listener of this.#listeners) listener(event);
    });
  }

  async end() {
    for (const end of this.#ends.reverse()) await Promise.resolve().then(end).catch((error) => console.error(String(error)));
  }

  /** Whether an event like that came or comes in time. */
  async heard(wanted, ms = PATIENCE) {
    return this.events.some(wanted) || comes(this.#listeners, wanted, ms);
  }

  ready() {
    return this.heard(({ kind }) => kind === 'worker_ready');
  }

  /** Writes to the agent through the engine, as any peer does; `shape` makes the text, `mode` says whether it interrupts. */
  async send(shape, mode) {
    marks += 1;
    const mark = `mark${String(marks).padStart(4, '0')}x`;
    const message = { mark, text: shape(mark), sentAt: performance.now(), urgent: mode === 'steer' };
    this.sent.push(message);
    message.id = (await this.me.dm('agent', message.text, mode && { mode })).id;
    return message;
  }

  /** Until the broker says that the agent took the message; false if it does not in time. */
  async accepted(message, ms = PATIENCE) {
    const about = (event) => event.kind === 'delivery_verified' && event.event_id === message.id;
    const came = await this.heard(about, ms);
    if (came) {
      const event = this.events.find(about);
      Object.assign(message, { acceptedAt: event.at, proof: event.proof });
    }
    return came;
  }

  /** Until the model was told of the message, and then until it has answered all. */
  async answered(message, ms = PATIENCE) {
    const came = await this.models.until((turns) => turns.some((turn) => turn.includes(message.mark)), ms);
    await this.quiet();
    return came;
  }

  /** Until no answer is told, and for a moment more. */
  async quiet() {
    for (let still = 0; still < 4; still += 1) {
      await later(60);
      if (this.models.busy) still = 0;
    }
  }

  async screen() {
    return (await this.broker.api('GET', '/api/spawned/agent/snapshot?format=plain')).screen;
  }

  /** As a person at the keyboard. */
  type(data) {
    return this.broker.api('POST', '/api/input/agent', { data });
  }

  /** Until the terminal shows it. */
  shows(pattern, ms = PATIENCE) {
    return until(async () => pattern.test(await this.screen()), `${pattern} on the screen of ${this.cli}`, ms);
  }

  async state() {
    const { agents } = await this.broker.api('GET', '/api/spawned');
    return agents.find(({ name }) => name === 'agent');
  }

  files(name) {
    return path.join(this.project, name);
  }
}
