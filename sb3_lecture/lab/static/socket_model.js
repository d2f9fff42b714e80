// The model behind a view, in anywidget's form (get, set, save_changes, send, on), over a WebSocket.
//
// A page's state is { settings, playing, … }. At most one message is on its way: while a slider is dragged, what it says in the
// meantime is merged, and goes out when the answer has come. So the newest value always wins, and nothing piles up.

const RETRY_MS = 1000;

export class SocketModel {
  constructor(url, onConnection) {
    this.url = url;
    this.onConnection = onConnection;
    this.state = {};
    this.hello = null;
    this.listeners = new Map();
    this.pending = {}; // settings not sent yet
    this.flying = null; // settings of the message on its way
    this.orders = []; // actions not sent yet
    this.waiting = null; // id of the message on its way
    this.id = 0;
    this.refusal = ""; // what the server said of the last message, if it did not take it
    this.connected = false;
    this.firstSettings = {};
    this.connect();
  }

  connect() {
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    socket.onclose = (event) => {
      this.connected = false;
      const wait = event.code === 1013;
      this.onConnection(wait ? event.reason : "The lab does not answer. Trying again …", false);
      if (!this.gone) setTimeout(() => this.connect(), RETRY_MS);
    };
  }

  receive(message) {
    if (message.hello) {
      this.hello = message.hello;
      const again = this.everything;
      this.waiting = null;
      this.flying = null;
      this.connected = true;
      this.onConnection(again ? "Connected again; the run goes on." : "", true);
      this.pending = { ...(again ?? this.firstSettings), ...this.pending };
      this.take(message.state);
      const wasPlaying = this.wasPlaying;
      if (again && wasPlaying) this.orders.push("play");
      this.flush();
      return;
    }
    if (message.id !== undefined && message.id === this.waiting) {
      this.waiting = null;
      this.flying = null;
    }
    if (message.error || message.id !== undefined) this.refusal = message.error ?? "";
    if (message.state) this.take(message.state);
    if (message.frame) {
      // the frame is drawn with the browser's next picture; only then the server sends another one
      requestAnimationFrame(() => this.raw({ ack: message.frame }));
    }
    this.flush();
  }

  take(state) {
    const before = this.state;
    this.state = { ...state, settings: { ...state.settings, ...this.flying, ...this.pending } };
    if (this.connected && !Object.keys(this.pending).length) {
      this.everything = this.state.settings;
      this.wasPlaying = state.playing;
    }
    this.emit("change", before);
  }

  // ---- anywidget's form

  get(name) {
    return name in this.state ? this.state[name] : this.state.settings?.[name];
  }

  set(name, value) {
    this.pending[name] = value;
    if (this.state.settings) this.state.settings = { ...this.state.settings, [name]: value };
  }

  save_changes() {
    this.emit("change", this.state);
    this.flush();
  }

  send(content) {
    this.orders.push(content.do);
    this.flush();
  }

  on(name, callback) {
    if (!this.listeners.has(name)) this.listeners.set(name, []);
    this.listeners.get(name).push(callback);
  }

  emit(name, value) {
    for (const callback of this.listeners.get(name) ?? []) callback(value);
  }

  // ---- the wire

  get busy() {
    return this.waiting !== null;
  }

  flush() {
    if (!this.connected || this.waiting !== null) return;
    if (Object.keys(this.pending).length) {
      this.flying = this.pending;
      this.pending = {};
      this.raw({ id: (this.waiting = ++this.id), set: this.flying });
    } else if (this.orders.length) {
      this.raw({ id: (this.waiting = ++this.id), do: this.orders.shift() });
    }
    this.emit("busy", this.busy);
  }

  raw(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}
