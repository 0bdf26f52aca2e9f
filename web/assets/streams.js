// A page that nobody sees streams nothing. By HTTP/1.1 a browser has six connections to a host, for
// all of its pages: six hidden ones that stream would leave none for the seventh, which would never
// come. What looks cost is saved besides.
(() => {
  class Stream {
    #url; #source = null; #ended = false; #listeners = [];
    onopen = null;
    onerror = null;

    constructor(url) {
      this.#url = url;
      document.addEventListener("visibilitychange", this.#see);
      // Its owner sets what it listens to first.
      queueMicrotask(this.#see);
    }

    get readyState() {
      return this.#source ? this.#source.readyState : this.#ended ? EventSource.CLOSED : EventSource.CONNECTING;
    }

    addEventListener(type, listener) {
      this.#listeners.push([type, listener]);
      this.#source?.addEventListener(type, listener);
    }

    removeEventListener(type, listener) {
      this.#listeners = this.#listeners.filter(([t, l]) => t !== type || l !== listener);
      this.#source?.removeEventListener(type, listener);
    }

    close() {
      this.#end();
      this.#source?.close();
    }

    #see = () => {
      if (this.#ended) return;
      if (document.hidden) {
        this.#source?.close();
        this.#source = null;
      } else if (!this.#source) {
        this.#open();
      }
    };

    #open() {
      const source = new EventSource(this.#url);
      source.onopen = (event) => this.onopen?.(event);
      source.onerror = (event) => {
        // The owner makes another one of a source that is closed.
        if (source.readyState === EventSource.CLOSED) this.#end();
        this.onerror?.(event);
      };
      for (const [type, listener] of this.#listeners) source.addEventListener(type, listener);
      this.#source = source;
    }

    #end() {
      this.#ended = true;
      document.removeEventListener("visibilitychange", this.#see);
    }
  }
  htmx.createEventSource = (url) => new Stream(url);
})();
