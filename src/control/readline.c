/* A line editor for terminals: cursor keys, history, completion; plain lines from pipes work as well.
 * Key sequences: ECMA-48 and xterm's. */
#include <stdio.h>
#include <string.h>
#include "control/hmp.h"

enum { LINE_MAX_BYTES = 4095, HISTORY_MAX = 64 };
static const char prompt[] = "(qemu) ";

enum escape { ESC_NONE, ESC_ESC, ESC_CSI };
struct readline {
    void (*print)(void *opaque, const char *text, size_t len);
    void (*line)(void *opaque, const char *text);
    GPtrArray *(*complete)(void *opaque, const char *text);
    void *opaque;
    GString *text;
    size_t cursor;
    GPtrArray *history;         /* oldest first */
    unsigned at;                /* history entry shown; history->len: the new line */
    char *draft;                /* the new line while an old one is shown */
    enum escape esc; int param;
    bool after_cr;
};

struct readline *readline_new(void (*print)(void *opaque, const char *text, size_t len),
                              void (*line)(void *opaque, const char *text),
                              GPtrArray *(*complete)(void *opaque, const char *text), void *opaque)
{
    struct readline *rl = g_new0(struct readline, 1);

    rl->print = print;
    rl->line = line;
    rl->complete = complete;
    rl->opaque = opaque;
    rl->text = g_string_new(NULL);
    rl->history = g_ptr_array_new_with_free_func(g_free);
    return rl;
}

void readline_free(struct readline *rl)
{
    if (!rl)
        return;
    g_string_free(rl->text, true);
    g_ptr_array_free(rl->history, true);
    g_free(rl->draft);
    g_free(rl);
}

const char *readline_history(struct readline *rl, unsigned n)
{
    return n < rl->history->len ? rl->history->pdata[n] : NULL;
}

static void put(struct readline *rl, const char *text)
{
    rl->print(rl->opaque, text, strlen(text));
}

static void move(struct readline *rl, size_t to)
{
    char seq[32];

    if (to == rl->cursor)
        return;
    snprintf(seq, sizeof(seq), "\033[%zu%c", to > rl->cursor ? to - rl->cursor : rl->cursor - to,
             to > rl->cursor ? 'C' : 'D');
    put(rl, seq);
    rl->cursor = to;
}

/* Prints from the cursor on after a change, and puts the cursor at `to`. */
static void redraw_tail(struct readline *rl, size_t to)
{
    put(rl, rl->text->str + rl->cursor);
    put(rl, "\033[K");
    rl->cursor = rl->text->len;
    move(rl, to);
}

static void replace(struct readline *rl, const char *text)
{
    move(rl, 0);
    g_string_assign(rl->text, text);
    redraw_tail(rl, rl->text->len);
}

void readline_prompt(struct readline *rl)
{
    put(rl, prompt);
    put(rl, rl->text->str);
    rl->cursor = rl->text->len;
}

void readline_reset(struct readline *rl)
{
    g_string_truncate(rl->text, 0);
    rl->cursor = 0;
    rl->esc = ESC_NONE;
    rl->at = rl->history->len;
}

static void insert(struct readline *rl, char c)
{
    if (rl->text->len >= LINE_MAX_BYTES)
        return;
    g_string_insert_c(rl->text, rl->cursor, c);
    if (rl->cursor + 1 == rl->text->len) {
        rl->print(rl->opaque, &c, 1);
        rl->cursor++;
    } else {
        redraw_tail(rl, rl->cursor + 1);
    }
}

static void erase(struct readline *rl, size_t from, size_t len)
{
    if (!len)
        return;
    move(rl, from);
    g_string_erase(rl->text, from, len);
    redraw_tail(rl, from);
}

static void history_move(struct readline *rl, int by)
{
    if ((by < 0 && !rl->at) || (by > 0 && rl->at >= rl->history->len))
        return;
    if (rl->at == rl->history->len) {
        g_free(rl->draft);
        rl->draft = g_strdup(rl->text->str);
    }
    rl->at += by;
    replace(rl, rl->at == rl->history->len ? rl->draft : rl->history->pdata[rl->at]);
}

static void history_add(struct readline *rl, const char *text)
{
    unsigned n = rl->history->len;

    if (*text && (!n || strcmp(rl->history->pdata[n - 1], text))) {
        if (n == HISTORY_MAX)
            g_ptr_array_remove_index(rl->history, 0);
        g_ptr_array_add(rl->history, g_strdup(text));
    }
    rl->at = rl->history->len;
}

static void enter(struct readline *rl)
{
    g_autofree char *text = g_strdup(rl->text->str);

    put(rl, "\r\n");
    history_add(rl, text);
    readline_reset(rl);
    rl->line(rl->opaque, text);
    put(rl, prompt);
}

static size_t common_prefix(GPtrArray *all)
{
    const char *first = all->pdata[0];
    size_t n = strlen(first);

    for (unsigned i = 1; i < all->len; i++) {
        size_t k = 0;

        while (k < n && first[k] == ((char *)all->pdata[i])[k])
            k++;
        n = k;
    }
    return n;
}

static void complete(struct readline *rl)
{
    g_autoptr(GPtrArray) all = rl->cursor == rl->text->len ? rl->complete(rl->opaque, rl->text->str) : NULL;
    g_autofree char *common = NULL;

    if (!all || !all->len)
        return;
    common = g_strndup(all->pdata[0], common_prefix(all));
    if (strlen(common) > rl->text->len) {
        replace(rl, common);
        if (all->len == 1)
            insert(rl, ' ');
        return;
    }
    put(rl, "\r\n");
    for (unsigned i = 0; i < all->len; i++) {
        const char *word = strrchr(all->pdata[i], ' ');

        put(rl, word ? word + 1 : all->pdata[i]);
        put(rl, "\r\n");
    }
    readline_prompt(rl);
}

static size_t word_start(struct readline *rl)
{
    size_t p = rl->cursor;

    while (p && rl->text->str[p - 1] == ' ')
        p--;
    while (p && rl->text->str[p - 1] != ' ')
        p--;
    return p;
}

static void csi_key(struct readline *rl, uint8_t c)
{
    size_t end = rl->text->len;

    switch (c) {
    case 'A': history_move(rl, -1); break;
    case 'B': history_move(rl, 1); break;
    case 'C': move(rl, MIN(rl->cursor + 1, end)); break;
    case 'D': move(rl, rl->cursor ? rl->cursor - 1 : 0); break;
    case 'H': move(rl, 0); break;
    case 'F': move(rl, end); break;
    case '~':
        if (rl->param == 1 || rl->param == 7)
            move(rl, 0);
        else if (rl->param == 4 || rl->param == 8)
            move(rl, end);
        else if (rl->param == 3 && rl->cursor < end)
            erase(rl, rl->cursor, 1);
        break;
    default: break;
    }
}

static void control_key(struct readline *rl, uint8_t c)
{
    size_t end = rl->text->len;

    switch (c) {
    case 1: move(rl, 0); break;                                 /* Ctrl-a */
    case 2: move(rl, rl->cursor ? rl->cursor - 1 : 0); break;   /* Ctrl-b */
    case 4:                                                     /* Ctrl-d */
        if (rl->cursor < end)
            erase(rl, rl->cursor, 1);
        break;
    case 5: move(rl, end); break;                               /* Ctrl-e */
    case 6: move(rl, MIN(rl->cursor + 1, end)); break;          /* Ctrl-f */
    case 8: case 127:                                           /* backspace */
        if (rl->cursor)
            erase(rl, rl->cursor - 1, 1);
        break;
    case 9: complete(rl); break;
    case 11: erase(rl, rl->cursor, end - rl->cursor); break;    /* Ctrl-k */
    case 12:                                                    /* Ctrl-l */
        put(rl, "\033[2J\033[H");
        readline_prompt(rl);
        break;
    case 14: history_move(rl, 1); break;                        /* Ctrl-n */
    case 16: history_move(rl, -1); break;                       /* Ctrl-p */
    case 21: erase(rl, 0, rl->cursor); break;                   /* Ctrl-u */
    case 23: {                                                  /* Ctrl-w */
        size_t from = word_start(rl);

        erase(rl, from, rl->cursor - from);
        break;
    }
    case 27: rl->esc = ESC_ESC; break;
    default: break;
    }
}

void readline_byte(struct readline *rl, uint8_t c)
{
    bool after_cr = rl->after_cr;

    rl->after_cr = c == '\r';
    switch (rl->esc) {
    case ESC_ESC:
        rl->esc = c == '[' || c == 'O' ? ESC_CSI : ESC_NONE;
        rl->param = 0;
        return;
    case ESC_CSI:
        if (c >= '0' && c <= '9') {
            rl->param = (rl->param * 10 + c - '0') % 1000;
            return;
        }
        if (c == ';')
            return;
        rl->esc = ESC_NONE;
        csi_key(rl, c);
        return;
    case ESC_NONE:
        break;
    }
    if (c == '\r' || (c == '\n' && !after_cr))
        enter(rl);
    else if (c >= 0x20 && c != 127)
        insert(rl, c);
    else if (c != '\n')
        control_key(rl, c);
}
