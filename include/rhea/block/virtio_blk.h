/* The virtio block device's wire: virtio 1.2, 5.2. Of the device and of the vhost-user export, which both speak it. */
#ifndef RHEA_BLOCK_VIRTIO_BLK_H
#define RHEA_BLOCK_VIRTIO_BLK_H

#include <stdint.h>

/* Feature bits (5.2.3), request types and states (5.2.6). */
enum { VBLK_F_SIZE_MAX = 1, VBLK_F_SEG_MAX = 2, VBLK_F_GEOMETRY = 4, VBLK_F_RO = 5, VBLK_F_BLK_SIZE = 6, VBLK_F_SCSI = 7, VBLK_F_FLUSH = 9,
       VBLK_F_TOPOLOGY = 10, VBLK_F_CONFIG_WCE = 11, VBLK_F_MQ = 12, VBLK_F_DISCARD = 13, VBLK_F_WRITE_ZEROES = 14 };
enum { VBLK_T_IN = 0, VBLK_T_OUT = 1, VBLK_T_FLUSH = 4, VBLK_T_GET_ID = 8, VBLK_T_DISCARD = 11, VBLK_T_WRITE_ZEROES = 13 };
enum { VBLK_S_OK = 0, VBLK_S_IOERR = 1, VBLK_S_UNSUPP = 2 };
enum { VBLK_SECTOR = 512, VBLK_ID_BYTES = 20, VBLK_ZEROES_UNMAP = 1 };

struct vblk_header { uint32_t type, reserved; uint64_t sector; };
struct vblk_segment { uint64_t sector; uint32_t sectors, flags; };      /* of a discard, of zeroes */
/* 5.2.4 */
struct vblk_config {
    uint64_t capacity;
    uint32_t size_max, seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t blk_size;
    uint8_t physical_block_exp, alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
} __attribute__((packed));

#endif
