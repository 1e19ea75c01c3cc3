/*
 * Trackway's own tracker for web pages. The gateway serves it as `/t.js`; `cargo xtask tracker` makes it small.
 *
 *   <script async src="https://GATEWAY/t.js" data-key="WRITE_KEY"></script>
 *
 * Attributes of that element; all but the first are optional:
 *   data-key                  the project's write key
 *   data-endpoint             folder of the gateway's paths; default: where this script came from
 *   data-consent="required"   nothing is stored or sent before `trackway.consent(true)`; what happens until then waits
 *   data-storage="none"       nothing is ever stored and no visitor id made: the gateway derives one if its project says so
 *   data-gpc="ignore"         tracks also those who ask not to be (Global Privacy Control, Do Not Track)
 *   data-pages="manual"       no page views but those of `trackway.page()`
 *   data-hash                 what stands behind `#` names the page too, as some routers have it
 *
 * Calls: `trackway("Event name", {properties})`, `trackway.identify(userId, {traits})`, `trackway.page({properties})`,
 * `trackway.consent(true | false)`, `trackway.reset()`. Those from before this script is there are kept by a stub:
 *
 *   <script>
 *     !function(t){function f(m){return function(){t.q.push([m,arguments])}}if(!window.trackway){window.trackway=t=f("track");
 *     t.q=[];["identify","page","consent","reset"].forEach(function(m){t[m]=f(m)})}}();
 *   </script>
 *
 * Marks: a click on or in `<a data-trackway="Event name" data-trackway-plan="pro">` sends that event with that property.
 * Events of its own: page views, `outbound_click` {url}, `engagement` {engaged_ms, scroll_percent}.
 *
 * How an event gets there, and what holds on the way:
 * - Each has an id from the beginning; so whatever is sent twice is counted once.
 * - Each is an entry of its own in localStorage until it is answered. Tabs share the entries and need no lock, because none
 *   ever rewrites what another has written. Beyond QUEUE_MAX the oldest go.
 * - No answer, 429, 5xx: sent again, later each time and never earlier than Retry-After says; else on the next visit. Any
 *   other answer is the last word.
 * - When the page is hidden, what waits is sent at once; when it is left, by beacon. A beacon brings no answer: an entry is
 *   given away with it, and lost if the gateway goes away in just that moment. So none is sent while the browser is offline
 *   or the gateway is known to be away; then the entries stay for the next visit. (To keep them all and send them again
 *   would make a duplicate of every last event of a page.)
 * - Requests are of the kind that browsers call simple: no preflight goes ahead of them.
 * - Nothing that goes wrong here reaches the page.
 *
 * `let` throughout: it makes the small form smaller than `const` does.
 *
 * Not here: sessions, campaigns, devices, bots. The server derives them, for all trackers alike.
 */
(() => {
  let VERSION = "1.0.0";
  /** Events that wait at most. localStorage is small, and shared with the page. */
  let QUEUE_MAX = 100;
  /** Events in one request, so that it stays below the 64 KiB that browsers let a beacon have. */
  let BATCH_MAX = 50;
  /** As much is surely below 64 KiB in UTF-8; a longer body cannot outlive its page. */
  let KEEPALIVE_CHARS_MAX = 2e4;
  /** What happens within so short a time goes together. */
  let GATHER_MS = 200;
  let RETRY_FIRST_MS = 1e3;
  let RETRY_MAX_MS = 6e4;
  /** Whoever does nothing for longer does not look at the page: so much of each pause counts, and no more. */
  let IDLE_MS = 3e4;

  let safe = (f) => (...args) => {
    try {
      f(...args);
    } catch {
      // The page has its own worries.
    }
  };
  /** On its way down every event passes the window, those of the document included. */
  let on = (names, f) => names.split(" ").map((name) => addEventListener(name, safe(f), true));

  safe(() => {
    let script = document.currentScript || document.querySelector("script[data-key]");
    let settings = script.dataset;
    let early = window.trackway || {};
    // A page that includes this twice is still viewed once.
    if (early.version) return;

    let endpoint = new URL("v1/events?writeKey=" + encodeURIComponent(settings.key), settings.endpoint || script.src);
    let unwanted = settings.gpc != "ignore" && (navigator.globalPrivacyControl || navigator.doNotTrack == 1);
    let required = settings.consent == "required";

    // Entries: what is known of the visitor, and events that wait.
    let OWN = "trackway." + settings.key + ".";
    let CONSENT = OWN + "consent";
    let VISITOR = OWN + "visitor";
    let USER = OWN + "user";
    let EVENT = OWN + "event.";

    /** What outlives the page, if there is such a thing. Without it there is no visitor id: each page would be another. */
    let lasting;
    try {
      lasting = settings.storage != "none" && localStorage;
    } catch {
      // The browser forbids it.
    }
    let disk = lasting || {};

    /** 0: nothing may be sent. 1: all may. 2: not known yet. Looked up each time, since another tab may have been told. */
    let consent = () => (unwanted ? 0 : +(disk[CONSENT] || (required ? 2 : 1)));

    /** Where entries are now: in memory as long as nothing may be stored, or when the disk is full. */
    let store = consent() == 1 ? disk : {};

    let entries = (of, start) =>
      Object.keys(of)
        .filter((name) => name.startsWith(start))
        .sort();
    let put = (name, value) => {
      try {
        store[name] = value;
      } catch {
        store = Object.fromEntries(entries(store, OWN).map((name) => [name, store[name]]));
        store[name] = value;
      }
    };
    let drop = (names) =>
      names.map((name) => {
        delete store[name];
        delete disk[name];
      });

    /** Our clock never says the same twice, so that events keep their order. */
    let last = 0;
    /** Sorts by time. Behind it stand 52 random bits. */
    let newId = () => (last = Math.max(last + 1, Date.now())).toString(36) + Math.random().toString(36).slice(2);

    // Sending.
    let timer;
    let underway = [];
    let retryMs = 0;

    let schedule = (ms) => {
      timer = timer || setTimeout(flush, ms);
    };
    let bodyOf = (names) =>
      // Another tab may have taken one out in between.
      `{"sent_at":"${new Date().toISOString()}","events":[${names.map((name) => store[name]).filter((entry) => entry)}]}`;
    let waiting = () =>
      consent() == 1
        ? entries(store, EVENT)
            .filter((name) => !underway.includes(name))
            .slice(0, BATCH_MAX)
        : [];

    let flush = async () => {
      timer = 0;
      let names = waiting();
      if (underway[0] || !names[0]) return;
      underway = names;
      let body = bodyOf(names);
      let status, retryAfter;
      try {
        let reply = await fetch(endpoint, {
          method: "POST",
          body,
          credentials: "include",
          keepalive: body.length < KEEPALIVE_CHARS_MAX,
        });
        status = reply.status;
        retryAfter = reply.headers.get("retry-after") * 1e3;
      } catch {
        // No answer.
      }
      underway = [];
      if (!status || status == 429 || status > 499) {
        retryMs = Math.min(retryMs * 2 || RETRY_FIRST_MS, RETRY_MAX_MS);
        // Others were turned away at the same moment: not all should come back at one.
        schedule(Math.max(retryAfter || 0, retryMs * (1 + Math.random() / 2)));
      } else {
        drop(names);
        retryMs = 0;
        schedule(0);
      }
    };

    // Events.
    /** The page as it was while it was viewed. What is sent on leaving is about it, not about the next one. */
    let where;

    let emit = (type, event, more) => {
      if (!consent()) return;
      let { width, height } = screen;
      let name = newId();
      let time = new Date(last);
      if (lasting && !store[VISITOR]) put(VISITOR, newId());
      if (where.url == here()) where.title = document.title;
      put(
        EVENT + name,
        JSON.stringify({
          type,
          event,
          id: name,
          // Left out where it is undefined.
          visitor_id: store[VISITOR],
          user_id: store[USER],
          time,
          ...more,
          context: {
            ...where,
            locale: navigator.language,
            screen: { width, height },
            // What waits for consent is only ever sent with it.
            consent: required || disk[CONSENT] ? "granted" : undefined,
            library: { name: "trackway.js", version: VERSION },
          },
        }),
      );
      drop(entries(store, EVENT).slice(0, -QUEUE_MAX));
      // While one is underway, what comes next is decided when it is answered.
      underway[0] || schedule(GATHER_MS);
    };
    let track = (event, properties) => emit("track", event, { properties });

    // Attention.
    let engagedMs = 0;
    let since = 0;
    let bottom = 0;
    let height = 0;

    let count = () => {
      let now = performance.now();
      if (since) engagedMs += Math.min(now - since, IDLE_MS);
      since = document.hidden || !document.hasFocus() ? 0 : now;
    };
    let look = () => {
      count();
      bottom = Math.max(bottom, scrollY + innerHeight);
      height = document.documentElement.scrollHeight;
    };
    let engagement = () => {
      count();
      let engaged_ms = Math.round(engagedMs);
      if (!engaged_ms) return;
      engagedMs = 0;
      track("engagement", { engaged_ms, scroll_percent: Math.min(100, Math.round((bottom / height) * 100)) || 0 });
    };

    // Pages.
    let referrer = document.referrer;

    let here = () => location.href.split("hash" in settings ? " " : "#")[0];
    let page = (properties, quiet) => {
      engagement();
      let url = here();
      if (where && where.url != url) referrer = where.url;
      where = { url, title: document.title, referrer };
      bottom = 0;
      quiet || emit("page", undefined, { properties });
    };
    let view = () => page(undefined, settings.pages == "manual");
    /** One turn later: routers set the title after the address, and some correct the address at once. */
    let navigated = () => setTimeout(safe(() => here() == where.url || view()));

    let clicked = ({ target, button }) => {
      // The right one opens a menu.
      if (button > 1) return;
      let marked = target.closest("[data-trackway]");
      let link = target.closest("a[href]");
      if (marked) {
        let properties = {};
        for (let { name, value } of marked.attributes) {
          let [, property] = name.split("data-trackway-");
          if (property) properties[property.replace(/-/g, "_")] = value;
        }
        track(marked.dataset.trackway, properties);
      }
      if (link && /^http/.test(link.protocol) && link.host != location.host) track("outbound_click", { url: link.href });
    };

    let hidden = () => {
      look();
      engagement();
      // A page that is left is said to be hidden twice, first while it is still to be seen.
      since = 0;
    };
    let left = () => {
      hidden();
      let names = waiting();
      if (names[0] && !retryMs && navigator.onLine && navigator.sendBeacon(endpoint, bodyOf(names))) drop(names);
    };

    // What the page calls.
    let calls = {
      track,
      page: (properties) => page(properties),
      identify(user, traits) {
        if (consent()) put(USER, user + "");
        emit("identify", undefined, { traits });
      },
      reset: () => drop([VISITOR, USER]),
      consent(given) {
        if (given) {
          let kept = store;
          store = disk;
          entries(kept, OWN).map((name) => put(name, kept[name]));
          schedule(0);
        } else {
          drop(entries(disk, OWN));
          store = {};
        }
        disk[CONSENT] = given ? 1 : "0";
      },
    };
    let trackway = (window.trackway = safe(track));
    trackway.version = VERSION;
    for (let name in calls) trackway[name] = safe(calls[name]);

    let start = () => {
      view();
      for (let name of ["pushState", "replaceState"]) {
        let original = history[name];
        history[name] = (...args) => {
          safe(look)();
          original.apply(history, args);
          navigated();
        };
      }
      on("popstate hashchange", navigated);
      on("scroll", look);
      on("pointerdown pointermove keydown focus blur", count);
      on("click auxclick", clicked);
      on("pagehide", left);
      on("visibilitychange", () => {
        if (!document.hidden) return count();
        hidden();
        retryMs || flush();
      });
      // A page that comes back out of the browser's memory is viewed again.
      on("pageshow", ({ persisted }) => persisted && view());
      on("online", () => {
        clearTimeout(timer);
        flush();
      });
      for (let [name, args] of early.q || []) trackway[name](...args);
      // What an earlier visit has left.
      schedule(GATHER_MS);
    };
    // What is only rendered ahead is not viewed yet.
    document.prerendering ? on("prerenderingchange", start) : start();
  })();
})();
